"""``vidinv bench video``: how steady edits of clips are, and whether their borders show.

Measured on composed frames before they are encoded, against the source:

- flicker: mean absolute difference of neighbouring frames along the *source's* optical flow, in the
  box around each face, of the edit over that of the source;
- border: gradient energy where the mask of a face fades out, of the edit over that of the source;
- smile: how much more than the source the edit smiles, where the pack can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.bench.ablation import ABLATIONS, EVERYTHING, Ablations, Rendering, ablations_of
from pipelines.bench.table import Column, table_lines
from pipelines.clip.networks import Networks
from pipelines.clip.session import ClipSession
from pipelines.process import set_up_process
from vidinv.editing.schedules import as_plain
from vidinv.errors import UsageError
from vidinv.faces import crop_scale_of, face_mask
from vidinv.faces.chips import face_box
from vidinv.faces.crops import as_uint8
from vidinv.faces.protocols import LandmarkPredictor
from vidinv.inversion import TrackState
from vidinv.metrics.attributes import SmileMeasure
from vidinv.metrics.temporal import NeighbourDifference, Picture
from vidinv.packs import Pack
from vidinv.types import EditSpec, FaceTrack, Frame, Image
from vidinv.video import open_reader

MASK_PX = 256
FADING = 0.05, 0.95  # of a mask: its border
SMILE_EVERY = 2  # frames: landmarks of two pictures take 3 ms
DIGITS = 3


@dataclass(frozen=True)
class VideoBench:
    """A row for every clip, or several (``ABLATIONS``); ``notes`` say which are left out."""

    pack: str
    method: str
    attributes: Mapping[str, Any]
    rows: Sequence[dict[str, Any]]
    is_ablated: bool = False
    notes: Sequence[str] = ()

    def lines(self) -> list[str]:
        """A table for people."""
        edit = ", ".join(f"{name}={strength}" for name, strength in self.attributes.items())
        columns = [Column("clip", "clip"), Column("frames", "frames", 0)]
        columns += [Column("what", "what")] if self.is_ablated else []
        columns += [Column(name, name, DIGITS) for name in ("flicker", "border", "smile")]
        return [
            f"{edit} by {self.method}, pack {self.pack}; edit over source",
            *table_lines(columns, self.rows),
            *(f"note: {note}" for note in self.notes),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "pack": self.pack,
            "method": self.method,
            "attributes": dict(self.attributes),
            "clips": list(self.rows),
            "notes": list(self.notes),
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


class SmileMeter:
    """How much more than the source an edit smiles, from landmarks of every second frame."""

    def __init__(self, measure: SmileMeasure | None, landmarks: LandmarkPredictor) -> None:
        self._measure, self._landmarks = measure, landmarks
        self._rises: list[float] = []

    def add(
        self, index: int, source: Picture, edited: Picture, tracks: Sequence[FaceTrack]
    ) -> None:
        """A frame and its edit, as for ``VideoMeter``."""
        if self._measure is None or index % SMILE_EVERY:
            return
        for track in tracks:
            if track.is_face and track.covers(index):
                box = face_box(track.landmarks(index))
                found = [self._landmarks.predict(picture, box) for picture in (source, edited)]
                before, after = self._measure(np.stack(found))
                self._rises.append(float(after - before))

    def row(self) -> dict[str, float | None]:
        """The mean, in standard deviations over people; None where nothing was measured."""
        rise = round(float(np.mean(self._rises)), DIGITS) if self._rises else None
        return {"smile": rise}


def measure_video(
    clips: Sequence[Path],
    *,
    pack: Pack,
    spec: EditSpec,
    device: str = "auto",
    is_ablated: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> VideoBench:
    """Edit clips as ``vidinv edit`` does, without writing them.

    Args:
        spec: the edit; of clips' first ``max_frames``.
        is_ablated: a row for every one of ``ABLATIONS`` that measures something with the pack.
        tell: told of every clip that is done.

    Raises:
        UsageError: a clip without a face to edit, or no frame wanted.
    """
    if spec.max_frames is not None and spec.max_frames < 1:
        raise UsageError(f"--max-frames {spec.max_frames}: give a whole number from 1")
    set_up_process()
    networks = Networks(pack, spec.method, device=device).load(spec)
    alone: tuple[Ablations, list[str]] = {EVERYTHING: ABLATIONS[EVERYTHING]}, []
    wanted, notes = ablations_of(pack) if is_ablated else alone
    rows = []
    for clip in clips:
        rendering = _prepared(clip, networks, spec)
        for what, rendered in wanted.items():
            named = {"what": what} if is_ablated else {}
            rows.append({"clip": clip.name, **named, **_measured(rendering, rendered(rendering))})
        tell(f"{clip.name}: {rows[-1]['frames']} frames")
    attributes = as_plain(spec.attributes)
    return VideoBench(pack.name, spec.method, attributes, rows, is_ablated, notes)


def _prepared(clip: Path, networks: Networks, spec: EditSpec) -> Rendering:
    """The clip as far as every run of it is alike."""
    session = ClipSession(clip, spec, networks)
    with open_reader(clip, until=session.last_frame) as reader:
        plan = session.make_plan(reader, reader.info, has_exact_times=lambda: reader.exact_times)
    tracks = plan.analysis.tracks
    if not tracks:
        raise UsageError(session.why_unchanged(plan))
    states: Mapping[int, TrackState] = {}
    if session.needs_fit(tracks):
        with open_reader(clip) as reader:
            states = session.fit(tracks, reader)
    part = None if plan.output_part is None else plan.part(plan.output)

    def read() -> Iterator[Frame]:
        with open_reader(clip, part=part) as reader:
            yield from reader

    return Rendering(session, plan, states, read)


def _measured(
    rendering: Rendering, frames: Iterator[tuple[Frame, Image]]
) -> dict[str, float | None]:
    """How the rendered frames of a clip do."""
    networks, analysis = rendering.session.networks, rendering.plan.analysis
    meters = (
        VideoMeter(crop_scale_of(networks.pack.alignment)),
        SmileMeter(networks.pack.smile_measure(), networks.backend.landmarks),
    )
    starts = {first for first, _ in analysis.shots}
    for frame, picture in frames:
        if frame.index in starts:
            meters[0].cut()
        for meter in meters:
            meter.add(frame.index, as_uint8(frame.image), as_uint8(picture), analysis.tracks)
    return {"frames": rendering.plan.output.num_frames, **meters[0].row(), **meters[1].row()}


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
