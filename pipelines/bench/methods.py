"""What the benchmarks of methods share: the request, faces in batches, methods at work."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.clip.networks import Networks
from pipelines.still_faces import FaceFinder, StillFace, as_batch, collect_faces
from vidinv.editing.directions import Directions
from vidinv.errors import UsageError
from vidinv.faces import Backend
from vidinv.faces.aligned import AlignedFaces
from vidinv.inversion import Inverter, TrackState, find_method
from vidinv.metrics import similarity
from vidinv.packs import Pack
from vidinv.rendering import Float32, to_array
from vidinv.types import EditedLatents, Inversion, RenderMode

BATCH = 8
FRAMES_PER_CLIP = 8


@dataclass(frozen=True)
class BenchRequest:
    """Faces, and who is measured on them.

    Attributes:
        inputs: pictures, clips, and folders of them.
        methods: names, or names set otherwise than the pack says, as ``adaptive:steps=0``
            (``method_as_set``); none: all that work with the pack and are not fitted to tracks.
        aligned: pictures are aligned faces already, and taken whole.
        frames_per_clip: evenly spread.
        limit: of faces; None: all.
    """

    inputs: Sequence[Path]
    pack: Pack
    methods: Sequence[str] = ()
    device: str = "auto"
    aligned: bool = False
    frames_per_clip: int = FRAMES_PER_CLIP
    limit: int | None = None


class BenchFaces:
    """The faces of a request, and their identity as the recognition network sees it.

    Attributes:
        groups: faces by file.
        notes: what was left out.
    """

    def __init__(self, request: BenchRequest, backend: Backend) -> None:
        for name in ("frames_per_clip", "limit"):
            value = getattr(request, name)
            if value is not None and value < 1:
                raise UsageError(f"{name.replace('_', ' ')} must be 1 at least, got {value}")
        without: list[Path] = []
        finder = FaceFinder(request.pack, backend, aligned=request.aligned)
        self.groups = collect_faces(
            request.inputs,
            finder,
            frames_per_clip=request.frames_per_clip,
            limit=request.limit,
            without=without.append,
        )
        self.notes = [f"no face found in {len(without)} files"] if without else []
        faces = self.all
        self.meter = AlignedFaces(np.mean([face.landmarks for face in faces], axis=0), backend)
        mean = request.pack.mean_embedding()
        self._mean = 0.0 if mean is None else mean.numpy()
        if mean is None:
            self.notes.append("identity is the raw cosine: the pack has no mean embedding")
        self._embeddings = {
            id(face): row
            for face, row in zip(
                faces, self.meter.embeddings([face.aligned for face in faces]), strict=True
            )
        }

    @property
    def all(self) -> list[StillFace]:
        return [face for group in self.groups for face in group]

    def identity(self, faces: Sequence[StillFace], pictures_NRR3: Float32) -> Float32:
        """``[N]`` similarity of pictures with the sources of ``faces``."""
        sources = np.stack([self._embeddings[id(face)] for face in faces])
        return similarity(self.meter.embeddings(pictures_NRR3), sources, mean=self._mean).astype(
            np.float32
        )

    def batches(self, inverter: Inverter) -> Iterator[list[StillFace]]:
        """As the method takes them: what fits sees one file at a time, as one track."""
        groups = self.groups if inverter.sample_frames else [self.all]
        for group in groups:
            for start in range(0, len(group), BATCH):
                yield group[start : start + BATCH]


@dataclass(frozen=True)
class InvertedFaces:
    """A batch that went through a method.

    Attributes:
        seconds: fitting, encoding and rendering of the inversion.
    """

    faces: list[StillFace]
    inversion: Inversion
    state: TrackState | None
    pictures: Float32
    seconds: float


def chosen_methods(request: BenchRequest) -> tuple[list[str], list[str]]:
    """The methods to measure, and a line about those that are left out.

    Methods that are fitted to every track (tens of seconds a file) are measured where they are
    asked for by name.

    Raises:
        UnknownNameError: names the methods that there are, or the options of one.
        UsageError: options that cannot be read.
    """
    for method in request.methods:
        method_as_set(request.pack, method)
    if request.methods:
        return list(dict.fromkeys(request.methods)), []
    left_out = [name for name in request.pack.methods if find_method(name).sample_frames]
    notes = [f"not measured, since slow (--method NAME): {', '.join(left_out)}"] if left_out else []
    return [name for name in request.pack.methods if name not in left_out], notes


def load_method(request: BenchRequest, method: str) -> Inverter:
    """The method on the device that was asked for."""
    return Networks(*method_as_set(request.pack, method), device=request.device).inverter


def method_as_set(pack: Pack, method: str) -> tuple[Pack, str]:
    """``NAME:OPTION=VALUE,OPTION=VALUE`` -> the pack with these options, and the name."""
    name, colon, text = method.partition(":")
    options = {}
    for part in text.split(",") if colon else ():
        option, equals, value = part.partition("=")
        if not (option and equals):
            raise UsageError(f"{method}: give NAME:OPTION=VALUE, as fse:edit_rule=eq1")
        options[option] = value
    pack.parts(name)
    return pack.with_options(name, options), name


def invert_all(
    inverter: Inverter, faces: BenchFaces, *, mode: RenderMode = RenderMode.INVERT
) -> Iterator[InvertedFaces]:
    """Every batch, inverted and rendered unedited; the first use of the networks is not timed."""
    if not inverter.sample_frames:
        _invert(inverter, faces.all[:1], None, mode)
    state, file = None, None
    for batch in faces.batches(inverter):
        started = time.perf_counter()
        if inverter.sample_frames and batch[0].path != file:
            file = batch[0].path
            group = next(g for g in faces.groups if g[0].path == file)
            state = inverter.fit(as_batch(_sample(group, inverter.sample_frames)))
        inversion, pictures = _invert(inverter, batch, state, mode)
        yield InvertedFaces(batch, inversion, state, pictures, time.perf_counter() - started)


def _invert(
    inverter: Inverter, faces: Sequence[StillFace], state: TrackState | None, mode: RenderMode
) -> tuple[Inversion, Float32]:
    inversion = inverter.encode(as_batch(faces), state, mode=mode)
    rendered = inverter.render(inversion, inversion.unedited, state, mode=mode)
    return inversion, to_array(rendered)


def _sample(group: Sequence[StillFace], count: int) -> list[StillFace]:
    places = np.linspace(0, len(group) - 1, min(count, len(group))).round().astype(int)
    return [group[place] for place in places]


def edited_pictures(
    inverter: Inverter,
    batch: InvertedFaces,
    directions: Directions,
    strengths: Mapping[str, float],
) -> Float32:
    """``[N, R, R, 3]`` 0..255 of the batch with the named attributes changed."""
    edited = edited_latents(batch, directions, strengths)
    return to_array(inverter.render(batch.inversion, edited, batch.state, mode=RenderMode.PASTE))


def edited_latents(
    batch: InvertedFaces, directions: Directions, strengths: Mapping[str, float]
) -> EditedLatents:
    """The batch's latents with the named attributes changed."""
    by_face = {name: torch.full([len(batch.faces)], value) for name, value in strengths.items()}
    return directions.apply(batch.inversion.latents_NLD, by_face)


@torch.inference_mode()
def pictures_of_latents(pack: Pack, latents_NLD: Tensor) -> Float32:
    """``[N, R, R, 3]`` 0..255: the generator's own pictures, without the method's other codes."""
    return to_array(pack.generator.synthesis(latents_NLD.cpu()))
