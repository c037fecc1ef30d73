"""See it work without a file at hand: ``vidinv demo`` makes a clip of a face, edits it, shows both.

The person in the clip does not exist: it is a face of the pack's own generator that turns its head
and talks, moving through the frame so that tracking matters, with a made-up chord for sound.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pipelines.edit import run
from pipelines.edit_request import EditRequest, check_output
from pipelines.meter import Progress
from pipelines.preview import Preview
from vidinv.errors import UsageError
from vidinv.packs import Pack
from vidinv.rendering import Float32, to_array
from vidinv.types import ClipResult, Crop, EditSpec, Frame, Image
from vidinv.video import VideoInfo, is_image_path, open_writer, probe
from vidinv.video.synthetic import write_tone

RATE = 25
SIZE_PX = 512
BATCH = 8
STRENGTH = 1.5  # the example of the command line's contract: clearly visible, still natural
# The person's moves: attribute -> (strength, seconds a cycle). Chosen by eye: within the range
# where generator and tracker are sure, and none of them in step with another.
MOVES = {"yaw": (0.7, 4.0), "pitch": (0.3, 2.7), "mouth_open": (0.4, 0.9)}
# Around these strengths: the mean training face smiles, which would leave a smile little to change.
AT_REST = {"smile": -0.8}
TRUNCATION = 0.3  # near the mean face, where the generator is at its best

Backdrop = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Demo:
    """Where the demo put its files, and the result of its edit; no sheet without a face, or where
    it could not be written (a warning says so)."""

    source: Path
    edited: Path
    sheet: Path | None
    result: ClipResult


def demonstrate(
    pack: Pack,
    folder: Path,
    *,
    clip: Path | None = None,
    attribute: str = "smile",
    progress: Progress | None = None,
) -> Demo:
    """Make a clip (or take ``clip``), edit it with keyframes, and show both on a sheet.

    Args:
        folder: where ``demo_source.mp4``, ``demo_edited.mp4`` and ``demo_sheet.png`` go; those of
            an earlier demo are replaced.
        clip: a video to edit instead of a made one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if clip is not None and is_image_path(clip):
        raise UsageError(f"{clip} is a picture and the demo edits clips: use 'vidinv edit'")
    source = clip or make_clip(pack, folder / "demo_source.mp4")
    keyframes = rising(probe(source).duration_seconds or 4.0)
    sheet = folder / "demo_sheet.png"
    request = EditRequest(
        input=source,
        output=folder / "demo_edited.mp4",
        pack=pack,
        spec=EditSpec(attributes={attribute: keyframes}),
        overwrite=True,
        preview=Preview(sheet),
    )
    check_output(request)
    sheet.unlink(missing_ok=True)  # of an earlier demo, where this one may make none
    result = run(request, progress=progress)
    return Demo(source, request.output, sheet if sheet.exists() else None, result)


def rising(seconds: float) -> tuple[tuple[float, float], ...]:
    """Keyframes: unchanged in the first quarter, then rising, full in the last quarter."""
    return ((round(seconds / 4, 2), 0.0), (round(seconds * 3 / 4, 2), STRENGTH))


def make_clip(
    pack: Pack,
    path: str | os.PathLike[str],
    *,
    seconds: float = 4.0,
    size_px: int = SIZE_PX,
    seed: int = 0,
    truncation: float = TRUNCATION,
    tone: bool = True,
) -> Path:
    """Write a clip of one talking face that ``pack`` generates, and return its path.

    Args:
        size_px: side of the square frame; the aligned face takes about 85 % of it.
        seed: which person.
        truncation: 0 is the mean face, 1 any that the generator makes.
        tone: with AAC sound.
    """
    info = VideoInfo.from_scratch(width=size_px, height=size_px, rate=RATE)
    times = np.arange(max(1, round(seconds * RATE))) / RATE
    with tempfile.TemporaryDirectory() as folder:
        if tone:
            sound = Path(folder) / "tone.mkv"
            write_tone(sound, seconds=len(times) / RATE)
            info = dataclasses.replace(info, path=str(sound))
        with open_writer(path, source=info) as writer:
            actor = _Actor(pack, seed, truncation)
            pictures = _frames(actor, times, size_px=size_px)
            for number, picture in enumerate(pictures):
                writer.write(Frame(number, number, info.time_base, picture, duration=1))
    return Path(path)


def _frames(actor: _Actor, times: npt.NDArray[np.float64], *, size_px: int) -> Iterator[Image]:
    """The made clip's pictures, ``[size, size, 3]`` uint8."""
    backdrop = _backdrop(actor.faces(np.zeros(1))[0], size_px)
    for start in range(0, len(times), BATCH):
        batch = times[start : start + BATCH]
        for seconds, face in zip(batch, actor.faces(batch), strict=True):
            yield _paste(face, backdrop, _place(float(seconds), size_px))


class _Actor:
    """A person of the generator's, and how it moves."""

    def __init__(self, pack: Pack, seed: int, truncation: float) -> None:
        random = torch.Generator().manual_seed(seed)
        self._z = torch.randn(1, pack.generator_config.z_dim, generator=random)
        self._truncation = truncation
        self._generator, self._directions = pack.generator, pack.directions()
        self._attributes = sorted({*MOVES, *AT_REST} & set(self._directions.names()))

    @torch.inference_mode()
    def faces(self, times: npt.NDArray[np.float64]) -> Float32:
        """``[N, R, R, 3]`` 0..255 at ``[N]`` seconds."""
        person = self._generator.mapping(self._z, truncation=self._truncation)
        strengths = {name: torch.from_numpy(_strength(name, times)) for name in self._attributes}
        latents = self._generator.broadcast(person).expand(len(times), -1, -1)
        edited = self._directions.apply(latents, strengths)
        pictures = self._generator.synthesis(edited.latents_NLD, style_offsets=edited.style_offsets)
        return to_array(pictures)


def _strength(attribute: str, times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    strength, period = MOVES.get(attribute, (0.0, 1.0))
    return AT_REST.get(attribute, 0.0) + strength * np.sin(2 * np.pi * times / period)


def _place(seconds: float, size_px: int) -> Crop:
    """The face's square: drifting, rolling by 5 degrees and breathing by 3 % over some seconds."""
    phase = 2 * np.pi * seconds / 4
    half = 0.42 * size_px * (1 + 0.03 * np.sin(1.3 * phase))
    roll = np.deg2rad(5) * np.sin(0.7 * phase)
    center = 0.5 + 0.04 * np.array([np.sin(phase), np.sin(1.6 * phase)])
    return Crop(
        float(center[0] * size_px),
        float(center[1] * size_px),
        float(half * np.cos(roll)),
        float(half * np.sin(roll)),
    )


def _backdrop(face: Float32, size_px: int) -> Backdrop:
    """What is behind a head: the border of its picture, carried outwards and out of focus."""
    margin = len(face) // 3
    wide = cv2.copyMakeBorder(face, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(wide, (0, 0), len(face) / 3)
    large = cv2.resize(soft, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.float32)


def _paste(face: Float32, backdrop: Backdrop, place: Crop) -> Image:
    size = (backdrop.shape[1], backdrop.shape[0])
    matrix = place.crop_to_frame(len(face))
    warped = cv2.warpAffine(
        face, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    mask = cv2.warpAffine(_feather(len(face)), matrix, size, flags=cv2.INTER_LINEAR)[..., None]
    return (backdrop + mask * (warped - backdrop)).clip(0, 255).round().astype(np.uint8)


def _feather(size: int) -> Float32:
    """``[size, size]`` 0..1: a square with round corners that fades over its outer fifth."""
    y, x = np.mgrid[0:size, 0:size] / (size - 1) * 2 - 1
    radius = (x**4 + y**4) ** 0.25
    return np.asarray(np.clip((1 - radius) / 0.2, 0, 1), np.float32)
