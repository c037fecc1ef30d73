"""``vidinv interpolate`` and ``vidinv mix``: what lies between two faces.

Both invert one face each of two pictures (or clips) and write the generator's own pictures of what
they make of the two: aligned faces, not frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipelines.clip.networks import Networks
from pipelines.meter import Progress
from pipelines.process import set_up_process
from pipelines.still_faces import FaceFinder, as_batch
from vidinv.editing.interpolation import interpolate, interpolate_states
from vidinv.errors import UsageError
from vidinv.faces import Backend
from vidinv.inversion import TrackState
from vidinv.inversion.fse import FeatureStyleInverter
from vidinv.packs import Pack
from vidinv.paths import check_input, check_replaceable, sole_writer
from vidinv.provenance import CredentialOptions, Finisher, MadeFrom, check_credentials
from vidinv.rendering import Float32, to_array
from vidinv.sheets import resized, sheet
from vidinv.types import Frame, Inversion
from vidinv.video import (
    EncodeOptions,
    VideoInfo,
    check_kind,
    choose_encoder,
    is_image_path,
    open_writer,
    write_image,
)

CHUNK = 8  # pictures that are rendered at once
CLIP_STEPS, SHEET_STEPS = 50, 7
TILE_PX = 220
MAX_SIZE_PX = 4096


@dataclass(frozen=True)
class PairRequest:
    """Two faces, and where the result goes.

    Attributes:
        first, second: pictures; of a clip, the first frame that shows a face.
        size_px: side of the result; None: the generator's own. In sheets, that of a tile.
        steps: pictures from ``first`` to ``second``, both included; None: 50 for a clip, 7 for a
            sheet.
        codes: interpolate also what the method has besides the latents, weights among it; else the
            pictures are G of the latents between.
        rate: frames a second.
        aligned: the pictures are aligned faces, and taken whole.
        credentials: whether and with what the output is signed.
        sheet: of a mix: the inversions of both and both mixes side by side (figure 7).
    """

    first: Path
    second: Path
    output: Path
    pack: Pack
    method: str = "fse"
    device: str = "auto"
    size_px: int | None = None
    steps: int | None = None
    codes: bool = True
    rate: int = 25
    sheet: bool = False
    aligned: bool = False
    overwrite: bool = False
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    credentials: CredentialOptions = field(default_factory=CredentialOptions)

    def made(self, what: str) -> MadeFrom:
        """What the output tells of its making."""
        return MadeFrom((self.first, self.second), what, self.method, self.pack.name)

    def finisher(self, what: str) -> Finisher:
        """Signs the output."""
        return Finisher(self.credentials, self.output, self.made(what))


def run_interpolation(
    request: PairRequest, *, progress: Progress | None = None, backend: Backend | None = None
) -> dict[str, Any]:
    """Write the way from one face to the other: a clip, or for a picture's name a sheet of it.

    Args:
        backend: finds the faces; dlib's if not given.

    Raises:
        UsageError: an invalid request, or a picture without a face; nothing is written.
        MediaError: an input that cannot be read, or an output that cannot be written.
    """
    _check(request)
    finisher = request.finisher("interpolation")
    is_sheet = is_image_path(request.output)
    if not is_sheet:
        choose_encoder(request.output, request.encode)
    steps = request.steps or (SHEET_STEPS if is_sheet else CLIP_STEPS)
    shares = np.linspace(0.0, 1.0, steps)
    pair = Pair(request, backend)
    with sole_writer(request.output):
        pictures = pair.between(shares, codes=request.codes)
        tracked = (progress or Progress()).track(pictures, label="interpolate", total=steps)
        if is_sheet:
            row = [(f"{share:.2f}", one) for share, one in zip(shares, tracked, strict=True)]
            picture = sheet([row], side_px=request.size_px or TILE_PX)
            comment = request.made("interpolation").comment
            write_image(request.output, picture, comment=comment, finish=finisher)
        else:
            _write_clip(request, tracked, finisher)
    return _result(request, finisher, frames=steps, interpolated=pair.parts(request.codes))


def run_mix(request: PairRequest, *, backend: Backend | None = None) -> dict[str, Any]:
    """Write G(w_B, F_A): the features of the first face with the styles of the second.

    Raises:
        UsageError: as ``run_interpolation``, or a method without a feature code.
        MediaError: as ``run_interpolation``.
    """
    _check(request)
    if not is_image_path(request.output):
        raise UsageError(f"{request.output}: a mix is a picture: give a name like mix.png")
    pair = Pair(request, backend)
    method = pair.networks.inverter
    if not isinstance(method, FeatureStyleInverter) or not method.codes:
        raise UsageError(f"mixing needs a feature code, which {request.method} lacks here: use fse")
    with sole_writer(request.output):
        mixed = pair.render(method.mix(features_of=pair.first, latents_of=pair.second))
        if request.sheet:
            other = pair.render(method.mix(features_of=pair.second, latents_of=pair.first))
            both = [pair.render(inversion) for inversion in (pair.first, pair.second)]
            captions = ("G(w_A, F_A)", "G(w_B, F_A)", "G(w_A, F_B)", "G(w_B, F_B)")
            row = list(zip(captions, (both[0], mixed, other, both[1]), strict=True))
            picture = sheet([row], side_px=request.size_px or TILE_PX)
        else:
            picture = resized(mixed, request.size_px or len(mixed))
        finisher = request.finisher("style mixing")
        comment = request.made("style mixing").comment
        write_image(request.output, picture, comment=comment, finish=finisher)
    return _result(request, finisher)


class Pair:
    """The two faces inverted by one method."""

    def __init__(self, request: PairRequest, backend: Backend | None) -> None:
        self._request = request
        set_up_process()
        self.networks = Networks(request.pack, request.method, device=request.device)
        backend = backend or self.networks.backend
        finder = FaceFinder(request.pack, backend, aligned=request.aligned)
        self._faces = [as_batch([finder.face(path)]) for path in (request.first, request.second)]

    @cached_property
    def states(self) -> tuple[TrackState, TrackState] | None:
        """What the method fits to each face, if it does."""
        inverter = self.networks.inverter
        if not inverter.sample_frames:
            return None
        return inverter.fit(self._faces[0]), inverter.fit(self._faces[1])

    @cached_property
    def first(self) -> Inversion:
        return self._encode(0)

    @cached_property
    def second(self) -> Inversion:
        return self._encode(1)

    def parts(self, codes: bool) -> list[str]:
        """What is interpolated, for people."""
        inverter = self.networks.inverter
        if not codes:
            return ["latents"]
        meanings = dict.fromkeys(inverter.codes[name].meaning for name in self.first.codes)
        return ["latents", *meanings, *(["fitted state"] if self.states else [])]

    def between(self, shares_N: np.ndarray, *, codes: bool) -> Iterator[Float32]:
        """``[R, R, 3]`` 0..255 for every share of the second face."""
        for start in range(0, len(shares_N), CHUNK):
            shares = torch.from_numpy(shares_N[start : start + CHUNK])
            if not codes:
                yield from self._of_latents(shares)
            elif self.states is None:
                yield from self._render(interpolate(self.first, self.second, shares), None)
            else:
                for share in shares:
                    state = interpolate_states(*self.states, float(share))
                    one = interpolate(self.first, self.second, share[None])
                    yield from self._render(one, state)

    def render(self, inversion: Inversion) -> Float32:
        """``[R, R, 3]`` 0..255 of one inversion; for methods that fit nothing."""
        return self._render(inversion, None)[0]

    def _encode(self, number: int) -> Inversion:
        state = None if self.states is None else self.states[number]
        return self.networks.inverter.encode(self._faces[number], state)

    def _render(self, inversion: Inversion, state: TrackState | None) -> Float32:
        return to_array(self.networks.inverter.render(inversion, inversion.unedited, state))

    @torch.inference_mode()
    def _of_latents(self, shares_N: torch.Tensor) -> Float32:
        """The generator's own pictures of the latents between."""
        ends = Inversion(self.first.latents_NLD), Inversion(self.second.latents_NLD)
        latents = interpolate(*ends, shares_N).latents_NLD
        return to_array(self._request.pack.generator.synthesis(latents.cpu()))


def _check(request: PairRequest) -> None:
    check_credentials(request.credentials)
    for path in (request.first, request.second):
        check_input(path)
        check_kind(path)
    check_replaceable(
        request.output, sources=(request.first, request.second), overwrite=request.overwrite
    )
    check_kind(request.output)
    if request.steps is not None and request.steps < 2:
        raise UsageError(f"--steps must be 2 at least, got {request.steps}")
    if request.size_px is not None and not 16 <= request.size_px <= MAX_SIZE_PX:
        raise UsageError(f"--size must be 16 to {MAX_SIZE_PX} px, got {request.size_px}")
    if not 1 <= request.rate <= 240:
        raise UsageError(f"--rate must be 1 to 240 frames a second, got {request.rate}")


def _write_clip(request: PairRequest, pictures: Iterator[Float32], finisher: Finisher) -> None:
    side = request.size_px or request.pack.resolution
    info = VideoInfo.from_scratch(width=side, height=side, rate=request.rate)
    comment = request.made("interpolation").comment
    with open_writer(
        request.output, source=info, options=request.encode, comment=comment, finish=finisher
    ) as writer:
        for number, picture in enumerate(pictures):
            image = resized(picture, side)
            writer.write(Frame(number, number, info.time_base, image, duration=1))


def _result(request: PairRequest, finisher: Finisher, **more: Any) -> dict[str, Any]:
    return {
        "inputs": [str(request.first), str(request.second)],
        "output": str(request.output),
        "method": request.method,
        "pack": request.pack.name,
        "warnings": finisher.warnings,
        **more,
    }
