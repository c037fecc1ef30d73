"""Neutral faces that no training saw, as the frames and one-frame tracks that the stages take.

Two kinds: faces of the validation split, enlarged as a user's small picture would be, and the most
neutral frame of real clips at full resolution. Both go through the very stages of ``vidinv edit``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from training.data import ATTRIBUTES, FaceArrays
from vidinv.composing import FrameComposer
from vidinv.faces import Backend, analyse, named_alignment, select_tracks
from vidinv.metrics.attributes import SmileMeasure
from vidinv.packs import Pack
from vidinv.rendering import FaceEdit, FaceEditor
from vidinv.types import EditSpec, FaceTrack, Frame, Image, RenderMode
from vidinv.video import ShotDetector, open_reader, read_image

PICTURE_PX = 512  # a 128 px validation face is enlarged to this
SEARCHED_FRAMES = 24  # of a clip, for a neutral one
# Frontal, neutral, eyes and mouth as most people have them, in population standard deviations.
LIMITS = {
    "smile": (-9.0, -0.3),
    "yaw": (-0.7, 0.7),
    "pitch": (-1.0, 1.0),
    "mouth_open": (-9.0, 0.2),
    "eyes_open": (-1.0, 9.0),
}
CLIPS = (
    "talk_hand_512.mp4",
    "expression_512.mp4",
    "greenscreen_512.mp4",
    "portrait_glasses_720x1280.mp4",
    "grid_bbaf2n.mpg",
    "grid_lbax4n.mpg",
)


@dataclass(frozen=True)
class Stranger:
    """One frame with one face: ``track`` spans this frame alone."""

    name: str
    frame: Frame
    track: FaceTrack


@dataclass(frozen=True)
class Edited:
    """A stranger after an edit: the networks' pictures and the composed frame."""

    face: FaceEdit
    picture: Image


def val_strangers(data128: FaceArrays, number: int) -> list[Stranger]:
    """Frontal neutral faces of the validation split, evenly from the sharper half of them."""
    targets = data128.targets_MA[data128.val_indices]
    fits = np.ones(len(targets), bool)
    for name, (low, high) in LIMITS.items():
        value = targets[:, ATTRIBUTES.index(name)]
        fits &= (low <= value) & (value <= high)
    candidates = data128.val_indices[fits]
    sharpness = [_sharpness(data128.images_M3RR[i]) for i in candidates]
    sharper = candidates[np.argsort(sharpness)[len(candidates) // 2 :]]
    chosen = sharper[np.linspace(0, len(sharper) - 1, number).round().astype(int)]
    return [_from_picture(data128, int(index)) for index in chosen]


def clip_strangers(folder: Path, smile: SmileMeasure, backend: Backend) -> list[Stranger]:
    """The most neutral early frame of each clip in ``CLIPS``."""
    found = []
    for name in CLIPS:
        with open_reader(folder / name) as reader:
            frames = list(islice(reader, SEARCHED_FRAMES))
        analysis = analyse(
            iter(frames),
            new_shot=ShotDetector().update,
            alignment=named_alignment("tight"),
            backend=backend,
        )
        (track,) = select_tracks(analysis, "largest", backend=backend, load_image=read_image)
        row = int(np.argmin(smile(track.landmarks_T682)))
        found.append(_one_frame(name.split(".")[0], frames[track.first + row], track, row))
    return found


def edit(
    strangers: Sequence[Stranger],
    pack: Pack,
    strengths: Mapping[str, float],
    *,
    mode: RenderMode = RenderMode.TRANSFER,
) -> list[Edited]:
    """Edit every stranger as ``vidinv edit`` does."""
    inverter = pack.inverter()
    spec = EditSpec(attributes={k: ((0.0, s),) for k, s in strengths.items()}, mode=mode)
    results = []
    for stranger in strangers:
        shots = [(0, 0)] * (stranger.track.shot + 1)
        editor = FaceEditor(
            inverter,
            resolution=pack.resolution,
            alignment=pack.alignment,
            directions=pack.directions(),
            spec=spec,
            tracks=[stranger.track],
            shots=shots,
        )
        chunks = list(editor.process([[stranger.frame]]))
        ((_, picture),) = FrameComposer(mode=mode, shots=shots).process(chunks)
        results.append(Edited(chunks[0].faces[0][0], picture))
    return results


def _sharpness(image_3RR: np.ndarray) -> float:
    """Variance of the Laplacian inside the face."""
    gray = np.asarray(image_3RR, np.float32).mean(0)
    return float(cv2.Laplacian(gray, cv2.CV_32F)[24:104, 24:104].var())


def _from_picture(data128: FaceArrays, index: int) -> Stranger:
    small = np.asarray(data128.images_M3RR[index]).transpose(1, 2, 0)
    size = (PICTURE_PX, PICTURE_PX)
    image = cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)
    scale = PICTURE_PX / small.shape[0]
    landmarks = (data128.landmarks_M[index] + 0.5) * scale - 0.5
    middle = (PICTURE_PX - 1) / 2
    crop = np.array([[middle, middle, PICTURE_PX / 2, 0.0]])
    frame = Frame(0, 0, Fraction(1), np.asarray(image, np.uint8))
    track = FaceTrack(0, 0, 0, landmarks[None].astype(np.float32), crop, np.ones(1, bool))
    return Stranger(f"val_{index}", frame, track)


def _one_frame(name: str, frame: Frame, track: FaceTrack, row: int) -> Stranger:
    at = slice(row, row + 1)
    frame = Frame(0, 0, Fraction(1), frame.image)
    alone = FaceTrack(0, 0, 0, track.landmarks_T682[at], track.crops_T4[at], track.measured_T[at])
    return Stranger(name, frame, alone)
