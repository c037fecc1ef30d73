"""Inversions of a clip on disk: a folder that edits start from, and a data set of latents.

    tracks = vidinv.load_latents("latents/clip.mp4.latents")
    tracks[0].latents_TLD  # [T, L, D] of the frames first..last of the first face

``plan.safetensors`` holds shots, tracks and frame times; ``00000.safetensors`` and so on hold the
frames of one segment each (docs/LATENTS.md). Every file says what decided it (``key``), so that old
and new are never taken for one another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidinv.arrays import as_decode_error, read_arrays, write_arrays
from vidinv.errors import DecodeError
from vidinv.types import Inversion

PLAN_FILE = "plan.safetensors"
SEGMENT_FILES = "[0-9]*.safetensors"


@dataclass(frozen=True)
class TrackLatents:
    """Inversions of consecutive frames of one face track.

    Attributes:
        first: index of the first frame in the clip.
        latents_TLD: ``[T, L, D]`` float32 w+ codes.
        features_TCHW: as ``Inversion.features_NCHW``, or None.
    """

    first: int
    latents_TLD: Tensor
    features_TCHW: Tensor | None = None

    @property
    def frames(self) -> range:
        """Indices of the frames in the clip."""
        return range(self.first, self.first + len(self.latents_TLD))

    def at(self, frames: range) -> Inversion:
        """The inversion of some of the frames."""
        rows = slice(frames.start - self.first, frames.stop - self.first)
        features = None
        if self.features_TCHW is not None:
            # As the networks give them: the layout decides how sums are rounded.
            features = self.features_TCHW[rows].contiguous(memory_format=torch.channels_last)
        return Inversion(self.latents_TLD[rows], features)


@dataclass(frozen=True)
class SegmentLatents:
    """What one file holds.

    Attributes:
        key: what decided the numbers; plain types.
        with_features: feature codes were wanted (a method may have none).
        tracks: by id.
    """

    key: Mapping[str, Any]
    with_features: bool
    tracks: Mapping[int, TrackLatents]


def write_latents(path: Path, segment: SegmentLatents) -> None:
    """Write a segment; a code that all layers share is written once (L = 1)."""
    arrays, firsts, num_ws = {}, {}, 0
    for number, track in segment.tracks.items():
        latents = track.latents_TLD
        one = latents[:, :1]
        num_ws, firsts[number] = latents.shape[1], track.first
        shared = torch.equal(latents, one.expand_as(latents))
        arrays[f"{number}.latents_TLD"] = (one if shared else latents).float().numpy()
        if track.features_TCHW is not None:
            arrays[f"{number}.features_TCHW"] = track.features_TCHW.float().numpy()
    facts = {"with_features": segment.with_features, "num_ws": num_ws, "first_frames": firsts}
    write_arrays(path, arrays, {**facts, "key": segment.key})


def read_latents(path: Path, key: Mapping[str, Any]) -> SegmentLatents | None:
    """The inverse of ``write_latents``; None where another key decided what is in the file.

    Raises:
        FileNotFoundError: there is none.
        DecodeError: it is not as it was written.
    """
    arrays, facts = read_arrays(path)
    if facts.get("key") != key:  # before anything is built: its layout may be another, too
        return None
    with as_decode_error(path):
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        tracks = {
            int(number): TrackLatents(
                first,
                tensors[f"{number}.latents_TLD"].expand(-1, facts["num_ws"], -1),
                tensors.get(f"{number}.features_TCHW"),
            )
            for number, first in facts["first_frames"].items()
        }
        return SegmentLatents(facts["key"], facts["with_features"], tracks)


def load_latents(folder: str | os.PathLike[str]) -> dict[int, TrackLatents]:
    """Every track of a clip that was inverted with ``--latents``, by id.

    Args:
        folder: the clip's own, for instance ``latents/clip.mp4.latents``.

    Raises:
        DecodeError: no clip was analysed there, a file is damaged or of a version with another
            layout, or the run did not come to its end.
    """
    folder = Path(folder)
    try:
        plan, facts = read_arrays(folder / PLAN_FILE)
    except FileNotFoundError:
        raise DecodeError(f"{folder}: no clip was analysed there") from None
    with as_decode_error(folder / PLAN_FILE):
        spans = {
            number: range(first, first + len(plan[f"{number}.crops_T4"]))
            for number, _, first in facts["tracks"]
        }
        read = [read_latents(path, facts["key"]) for path in sorted(folder.glob(SEGMENT_FILES))]
    segments = [segment for segment in read if segment is not None]
    whole = {}
    for number, span in spans.items():
        parts = [segment.tracks[number] for segment in segments if number in segment.tracks]
        if [frame for part in parts for frame in part.frames] != list(span):
            raise DecodeError(f"{folder}: latents of face {number} are not complete; edit it again")
        whole[number] = _joined(parts)
    return whole


def _joined(parts: list[TrackLatents]) -> TrackLatents:
    features = [part.features_TCHW for part in parts if part.features_TCHW is not None]
    return TrackLatents(
        parts[0].first,
        torch.cat([part.latents_TLD for part in parts]),
        torch.cat(features) if len(features) == len(parts) else None,
    )
