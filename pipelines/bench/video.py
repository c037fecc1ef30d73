"""``vidinv bench video``: how steady edits of clips are, and whether their borders show.

Measured on composed frames before they are encoded, against the source:

- flicker: mean absolute difference of neighbouring frames along the *source's* optical flow, in the
  box around each face, of the edit over that of the source;
- border: gradient energy where the mask of a face fades out, of the edit over that of the source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.bench.table import Column, table_lines
from pipelines.clip.networks import Networks
from pipelines.clip.session import ClipSession
from pipelines.process import set_up_process
from vidinv.editing.schedules import as_plain
from vidinv.errors import UsageError
from vidinv.faces import crop_scale_of, face_mask
from vidinv.faces.crops import as_uint8
from vidinv.metrics.temporal import NeighbourDifference, Picture
from vidinv.packs import Pack
from vidinv.types import EditSpec, FaceTrack
from vidinv.video import open_reader

MASK_PX = 256
FADING = 0.05, 0.95  # of a mask: its border
DIGITS = 3


@dataclass(frozen=True)
class VideoBench:
    """A row for every clip."""

    pack: str
    method: str
    attributes: Mapping[str, Any]
    rows: Sequence[dict[str, Any]]

    def lines(self) -> list[str]:
        """A table for people."""
        edit = ", ".join(f"{name}={strength}" for name, strength in self.attributes.items())
        columns = [Column("clip", "clip"), Column("frames", "frames", 0)]
        columns += [Column(name, name, DIGITS) for name in ("flicker", "border")]
        return [
            f"{edit} by {self.method}, pack {self.pack}; edit over source",
            *table_lines(columns, self.rows),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "pack": self.pack,
            "method": self.method,
            "attributes": dict(self.attributes),
            "clips": list(self.rows),
        }


@dataclass
class VideoMeter:
    """Sums over the frames of one clip, in order.

    Args:
        crop_scale: of the alignment that the tracks' crops are of.
    """

    crop_scale: float
    _differ: NeighbourDifference = field(default_factory=NeighbourDifference)
    _flicker: list[tuple[float, float]] = field(default_factory=list)
    _border: list[tuple[float, float]] = field(default_factory=list)

    def cut(self) -> None:
        """The next frame begins a shot."""
        self._differ = NeighbourDifference()

    def add(
        self, index: int, source: Picture, edited: Picture, tracks: Sequence[FaceTrack]
    ) -> None:
        """A frame and its edit, RGB ``[H, W, 3]`` uint8, with the tracks that are edited."""
        maps = self._differ(source, source, edited)
        for track in tracks:
            if not track.covers(index):
                continue
            if maps is not None and track.covers(index - 1):
                box = _box(track.landmarks(index), source.shape)
                self._flicker.append((float(maps[0][box].mean()), float(maps[1][box].mean())))
            self._border.append(self._energies(index, source, edited, track))

    def row(self) -> dict[str, float | None]:
        """Ratios of the sums; None where nothing was to be compared."""
        return {"flicker": _ratio(self._flicker), "border": _ratio(self._border)}

    def _energies(
        self, index: int, source: Picture, edited: Picture, track: FaceTrack
    ) -> tuple[float, float]:
        crop = track.crop(index)
        mask = face_mask(
            track.landmarks(index), crop=crop, size_px=MASK_PX, crop_scale=self.crop_scale
        )
        border = (mask > FADING[0]) & (mask < FADING[1])
        to_crop = cv2.invertAffineTransform(crop.crop_to_frame(MASK_PX))
        first, second = (
            _gradient_energy(
                np.asarray(
                    cv2.warpAffine(
                        picture, to_crop, (MASK_PX, MASK_PX), borderMode=cv2.BORDER_REPLICATE
                    ),
                    np.uint8,
                )
            )
            for picture in (source, edited)
        )
        return float(first[border].mean()), float(second[border].mean())


def measure_video(
    clips: Sequence[Path],
    *,
    pack: Pack,
    spec: EditSpec,
    device: str = "auto",
    tell: Callable[[str], None] = lambda line: None,
) -> VideoBench:
    """Edit clips as ``vidinv edit`` does, without writing them.

    Args:
        spec: the edit.
        tell: told of every clip that is done.

    Raises:
        UsageError: a clip without a face to edit.
    """
    set_up_process()
    networks = Networks(pack, spec.method, device=device).load()
    rows = []
    for clip in clips:
        rows.append({"clip": clip.name, **_measured(clip, networks, spec)})
        tell(f"{clip.name}: {rows[-1]['frames']} frames")
    return VideoBench(pack.name, spec.method, as_plain(spec.attributes), rows)


def _measured(clip: Path, networks: Networks, spec: EditSpec) -> dict[str, Any]:
    session = ClipSession(clip, spec, networks)
    with open_reader(clip) as reader:
        plan = session.make_plan(reader, reader.info, has_exact_times=lambda: reader.exact_times)
    tracks = plan.analysis.tracks
    if not tracks:
        raise UsageError(session.why_unchanged(plan))
    states = {}
    if session.needs_fit(tracks):
        with open_reader(clip) as reader:
            states = session.fit(tracks, reader)
    meter = VideoMeter(crop_scale_of(networks.pack.alignment))
    starts = {first for first, _ in plan.analysis.shots}
    with open_reader(clip) as reader:
        for frame, picture in session.render(plan, plan.whole, reader, states):
            if frame.index in starts:
                meter.cut()
            meter.add(frame.index, as_uint8(frame.image), as_uint8(picture), tracks)
    return {"frames": plan.analysis.num_frames, **meter.row()}


def _box(landmarks_682: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a frame around a face's landmarks, at least a pixel each."""
    low, high = np.floor(landmarks_682.min(axis=0)), np.ceil(landmarks_682.max(axis=0))
    left, right = np.clip([low[0], high[0]], 0, shape[1] - 1).astype(int)
    upper, lower = np.clip([low[1], high[1]], 0, shape[0] - 1).astype(int)
    return slice(upper, lower + 1), slice(left, right + 1)


def _gradient_energy(picture: Picture) -> np.ndarray:
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    across, down = (cv2.Sobel(luma, cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1)))
    return np.square(across) + np.square(down)


def _ratio(pairs: Sequence[tuple[float, float]]) -> float | None:
    source, edited = np.sum(pairs, axis=0) if pairs else (0.0, 0.0)
    return round(float(edited / source), DIGITS) if source > 0 else None
