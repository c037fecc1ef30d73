"""How much of the person an edit keeps: recognition embeddings on a few frames of a run.

A run embeds ``MAX_SAMPLES`` frames, evenly spread over the edited tracks, and the first frame of
each of these tracks, which IC compares the others to: about 10 ms a picture on a CPU. ``report``
embeds many more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vidinv.arrays import as_decode_error, read_arrays, write_arrays
from vidinv.faces import Backend, extract_crop, named_alignment
from vidinv.faces.protocols import Embedding, Points
from vidinv.geometry import transform_points
from vidinv.metrics.identity import identity_consistency, similarity
from vidinv.types import FaceTrack, Frame, IdentitySummary, Image

MAX_SAMPLES = 12
CHIP_PX = 256  # kept per sample: the recognition net itself takes 150 px


@dataclass(frozen=True)
class FaceSample:
    """One face before and after: ``[D]`` recognition embeddings.

    Attributes:
        additional: it is there as the first frame of its track alone: for IC, and no other figure.
    """

    track: int
    source: Embedding
    output: Embedding
    additional: bool = False


def save_samples(path: Path, samples: Sequence[FaceSample]) -> None:
    """Write samples; the file appears under its name when it is complete."""
    arrays: dict[str, np.ndarray] = {
        "track_N": np.array([sample.track for sample in samples], np.int64),
        "source_ND": np.array([sample.source for sample in samples], np.float32),
        "output_ND": np.array([sample.output for sample in samples], np.float32),
        "additional_N": np.array([sample.additional for sample in samples], bool),
    }
    write_arrays(path, arrays, {})


def load_samples(path: Path) -> list[FaceSample]:
    """The inverse of ``save_samples``.

    Raises:
        FileNotFoundError: there is none.
        DecodeError: it is not as it was written.
    """
    arrays, _ = read_arrays(path)
    with as_decode_error(path):
        columns = [arrays[n] for n in ("track_N", "source_ND", "output_ND", "additional_N")]
    return [
        FaceSample(int(track), source, output, bool(additional))
        for track, source, output, additional in zip(*columns, strict=True)
    ]


class IdentitySampler:
    """Collects face pictures during a run, and compares them at its end."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._wanted: dict[int, list[tuple[FaceTrack, bool]]] = {}
        self._chips: list[tuple[Image, Image, Points]] = []
        self._kept: list[tuple[int, bool]] = []
        self._samples: list[FaceSample] | None = None

    def choose(self, tracks: Sequence[FaceTrack]) -> None:
        """Choose the frames to embed, of a whole clip; squares of frames are nobody."""
        tracks = [track for track in tracks if track.is_face]
        places = [
            (track, index) for track in tracks for index in range(track.first, track.last + 1)
        ]
        chosen = np.linspace(0, len(places) - 1, min(MAX_SAMPLES, len(places))).round().astype(int)
        sampled = [places[i] for i in chosen]
        for track in tracks:
            own = [index for other, index in sampled if other is track]
            for index in own:
                self._want(track, index)
            if own and track.first not in own:
                self._want(track, track.first, additional=True)

    def _want(self, track: FaceTrack, index: int, *, additional: bool = False) -> None:
        self._wanted.setdefault(index, []).append((track, additional))

    def observe(self, frame: Frame, picture: Image) -> None:
        """Keep the faces of a frame that was chosen, before and after."""
        for track, additional in self._wanted.get(frame.index, []):
            landmarks = track.landmarks(frame.index)
            crop = named_alignment("ffhq").crop(landmarks, pixel_aspect=track.pixel_aspect)
            points = transform_points(landmarks, crop.frame_to_crop(CHIP_PX)).astype(np.float32)
            before, after = (extract_crop(image, crop, CHIP_PX) for image in (frame.image, picture))
            self._chips.append((before, after, points))
            self._kept.append((track.id, additional))

    def samples(self) -> list[FaceSample]:
        """The embeddings of the faces that were kept, in the order of the frames; computed once."""
        if self._samples is None:
            embedder = self._backend.embedder
            source = embedder.embed_all((before, points) for before, _, points in self._chips)
            output = embedder.embed_all((after, points) for _, after, points in self._chips)
            self._samples = [
                FaceSample(track, before, after, additional)
                for (track, additional), before, after in zip(
                    self._kept, source, output, strict=True
                )
            ]
        return self._samples


def summarise(
    samples: Sequence[FaceSample], mean_embedding: torch.Tensor | None
) -> IdentitySummary:
    """Figures over the samples of a clip, from one process or from many."""
    if not samples:
        return IdentitySummary()
    mean = 0.0 if mean_embedding is None else mean_embedding.numpy()
    source = np.stack([sample.source for sample in samples])
    output = np.stack([sample.output for sample in samples])
    ids = np.array([sample.track for sample in samples])
    counted = ~np.array([sample.additional for sample in samples])
    kept = similarity(source[counted], output[counted], mean=mean)
    return IdentitySummary(
        ic_source=_consistency(source, ids, mean),
        ic_output=_consistency(output, ids, mean),
        similarity_mean=round(float(kept.mean()), 4),
        similarity_min=round(float(kept.min()), 4),
    )


def _consistency(embeddings: np.ndarray, ids: np.ndarray, mean: np.ndarray | float) -> float | None:
    """IC averaged over the tracks with at least two samples, the first being their first frame."""
    groups = [embeddings[ids == track] for track in np.unique(ids)]
    values = [identity_consistency(g, mean=mean) for g in groups if len(g) > 1]
    return round(float(np.mean(values)), 4) if values else None
