"""What the inversion alone makes of a clip, and how well: PSNR, SSIM, and LPIPS where it is there.

The generator's own picture is measured, and kept to be recognised: pasted into the frame, feathered
and among the source's pixels, it looks better than it is. The pictures come from the very stages
that ``invert`` runs, frame by frame beside the other clips: nothing is encoded, and no third file
is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from pipelines.clip.session import ClipSession
from pipelines.report.recognition import sampled_places
from pipelines.report.track_meter import CHIP_PX, GENERATED, ChipStore
from vidinv.faces.crops import as_uint8
from vidinv.geometry import transform_points
from vidinv.inversion import TrackState
from vidinv.metrics import LPIPS, lpips_absent, psnr_batch, ssim_batch
from vidinv.metrics.image import SSIM_WINDOW
from vidinv.rendering import FaceEdit, chunked, to_tensor
from vidinv.report.model import FrameRow
from vidinv.types import Analysis, Frame, Image


@dataclass(frozen=True)
class Inverted:
    """A frame of the source; where it was inverted, its picture and the faces by track."""

    frame: Frame
    picture: Image | None = None
    faces: Mapping[int, FaceEdit] = field(default_factory=dict)


def inverted(
    frames: Iterator[Frame],
    *,
    session: ClipSession,
    analysis: Analysis,
    states: Mapping[int, TrackState],
    every: int = 1,
) -> Iterator[Inverted]:
    """Source frames with the faces of ``analysis`` inverted and pasted back, as by ``invert``.

    Args:
        session: in mode ``INVERT``.
        states: what the method fitted to each track, by id.
        every: invert every n-th frame of each track (``sampled_places``); the others pass through.
    """
    wanted = {
        track.first + place
        for track in analysis.tracks
        for place in sampled_places(track.num_frames, every)
    }
    editor = session.editor(analysis, states=states)
    composer = session.composer(analysis)
    for group in chunked(frames, analysis.shots):
        chosen = [frame for frame in group if frame.index in wanted]
        made = {}
        for chunk in editor.process([chosen]):
            pictures = composer.process([chunk])
            for (frame, picture), faces in zip(pictures, chunk.faces, strict=True):
                by_track = {face.track.id: face for face in faces}
                made[frame.index] = Inverted(frame, picture, by_track)
        yield from (made.get(frame.index) or Inverted(frame) for frame in group)


class InversionMeter:
    """Compares what the generator gives with the aligned face that it was given, and keeps it.

    Attributes:
        notes: what could not be measured, and why.
    """

    def __init__(self, resolution: int, store: ChipStore) -> None:
        self._store = store
        self._has_ssim = resolution >= SSIM_WINDOW
        self.notes: list[str] = []
        reason = lpips_absent(resolution)
        self._lpips = None if reason else LPIPS()
        if reason:
            self.notes.append(f"LPIPS is absent: {reason}")

    @torch.inference_mode()
    def measure(self, row: FrameRow, face: FaceEdit) -> None:
        """Fill in the row's figures of the inversion."""
        source, made = (to_tensor(crop[None]) for crop in (face.source_crop, face.rendered))
        row.psnr_inversion = _finite(float(psnr_batch(made, source)))
        if self._has_ssim:
            row.ssim_inversion = float(ssim_batch(made, source))
        if self._lpips is not None:
            row.lpips_inversion = float(self._lpips(made, source))
        self._keep(row, face)

    def _keep(self, row: FrameRow, face: FaceEdit) -> None:
        size_px = max(CHIP_PX, len(face.rendered))
        enlarged = cv2.resize(face.rendered, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
        chip = as_uint8(np.clip(np.rint(enlarged), 0, 255))
        points = transform_points(face.landmarks, face.crop.frame_to_crop(size_px))
        self._store.put(row.track, row.frame, {GENERATED: chip}, points.astype(np.float32))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
