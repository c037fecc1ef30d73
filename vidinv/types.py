"""The data that travels between parts of vidinv: shapes, units and ranges are stated here, once.

Coordinates: pixels of the displayed frame (rotation applied), x right, y down; the centre of the
top-left pixel is (0, 0), so the picture covers [-0.5, width - 0.5] (OpenCV's convention). Where
pixels are not square, frames keep their pixels and landmarks lie in them; crops are squares of what
a viewer sees (``Crop.pixel_aspect``).
Images: RGB, ``[H, W, 3]``; uint8 in 0..255, or uint16 in 0..65535 when the source has more than
8 bits. Tensors of faces: ``[N, 3, R, R]`` float in [-1, 1].

Legend of shape suffixes: N batch, T frames of a track, L style layers, D latent width, C channels,
R side of the aligned face in pixels.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Image = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded picture with its exact time.

    Attributes:
        index: position in display order, from 0.
        pts: presentation timestamp in units of ``time_base``.
        time_base: seconds per timestamp unit.
        image: RGB ``[H, W, 3]``, upright as displayed, uint8 or uint16 (full range of the type).
        duration: display time in units of ``time_base``; 0 where the file does not say.
        alpha: ``[H, W]`` of the image's type, how opaque each pixel is (full range of the type);
            None where the clip has no transparency.
        captions: closed captions that belong to the frame (``cc_data`` of ANSI/CTA-708, three bytes
            each), or empty.
    """

    index: int
    pts: int
    time_base: Fraction
    image: Image
    duration: int = 0
    alpha: Image | None = None
    captions: bytes = b""

    @property
    def time_seconds(self) -> float:
        return float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True)
class Crop:
    """A square of the picture as seen, rotated with the face: ``center ± x_axis ± y_axis``.

    ``y_axis`` is ``rot90(x_axis)`` with rot90(v) = (-v_y, v_x), so a crop is a similarity
    transform (4 numbers) and exactly invertible.

    Attributes:
        center_x, center_y: centre of the square in frame pixels; where pixels are not square, in
            pixels of the frame stretched sideways until they are.
        axis_x, axis_y: vector from the centre to the middle of the right edge, in the same pixels;
            its length is half the side.
        pixel_aspect: width over height of a pixel of the frame, 1 for square ones.
    """

    center_x: float
    center_y: float
    axis_x: float
    axis_y: float
    pixel_aspect: float = 1.0

    @property
    def side_px(self) -> float:
        """Length of the square's side, in rows of the frame."""
        return 2.0 * float(np.hypot(self.axis_x, self.axis_y))

    def as_array(self) -> npt.NDArray[np.float64]:
        """``[4]`` float64: center_x, center_y, axis_x, axis_y."""
        return np.array([self.center_x, self.center_y, self.axis_x, self.axis_y], np.float64)

    @classmethod
    def from_array(cls, values: Sequence[float] | FloatArray, *, pixel_aspect: float = 1.0) -> Crop:
        """The inverse of ``as_array``, which leaves out the pixels' aspect."""
        center_x, center_y, axis_x, axis_y = (float(v) for v in values)
        return cls(center_x, center_y, axis_x, axis_y, pixel_aspect)

    def crop_to_frame(self, size_px: int) -> npt.NDArray[np.float64]:
        """``[2, 3]`` affine matrix from pixels of a ``size_px`` crop to frame pixels.

        Crop coordinate -0.5 is the left edge of the square and size_px - 0.5 the right one.
        """
        sx, sy = 2.0 * self.axis_x / size_px, 2.0 * self.axis_y / size_px
        half = (size_px - 1) / 2.0
        matrix = np.array(
            [
                [sx, -sy, self.center_x - sx * half + sy * half],
                [sy, sx, self.center_y - sy * half - sx * half],
            ],
            np.float64,
        )
        if self.pixel_aspect != 1.0:
            matrix[0] /= self.pixel_aspect
            matrix[0, 2] += 0.5 / self.pixel_aspect - 0.5  # the picture begins at -0.5
        return matrix

    def frame_to_crop(self, size_px: int) -> npt.NDArray[np.float64]:
        """``[2, 3]`` affine matrix from frame pixels to crop pixels: the exact inverse."""
        matrix = np.vstack([self.crop_to_frame(size_px), [0.0, 0.0, 1.0]])
        return np.linalg.inv(matrix)[:2]


@dataclass(frozen=True, slots=True)
class FaceTrack:
    """One person followed through one shot, without gaps.

    Attributes:
        id: number of the track in the clip, from 0 in the same order as ``person``.
        shot: number of the shot, from 0.
        first: index of the first frame; frame ``first + t`` belongs to row t of the arrays.
        landmarks_T682: ``[T, 68, 2]`` float32, smoothed over time, frame pixels (iBUG 68 order);
            all NaN where it is no face but a square of the frame (``vidinv.faces.whole``).
        crops_T4: ``[T, 4]`` float64 smoothed crops (see ``Crop.as_array``).
        measured_T: ``[T]`` bool, False where the position was filled in between sightings.
        embedding: recognition embedding of the track (unit of the embedder), or None.
        pixel_aspect: of the frames (``Crop.pixel_aspect``).
        person: number of whom it shows, from 0 in order of first appearance, then from left to
            right: what ``--face`` and ``--attr N:...`` count. A person who leaves and returns, or
            is seen in several shots, has several tracks (``vidinv.faces.persons``).
    """

    id: int
    shot: int
    first: int
    landmarks_T682: npt.NDArray[np.float32]
    crops_T4: npt.NDArray[np.float64]
    measured_T: npt.NDArray[np.bool_]
    embedding: npt.NDArray[np.float32] | None = None
    pixel_aspect: float = 1.0
    person: int = 0

    @property
    def num_frames(self) -> int:
        return len(self.crops_T4)

    @property
    def last(self) -> int:
        """Index of the last frame, inclusive."""
        return self.first + self.num_frames - 1

    @property
    def is_face(self) -> bool:
        """It has landmarks: in every frame, or in none."""
        return bool(np.isfinite(self.landmarks_T682[:1]).all())

    def covers(self, frame_index: int) -> bool:
        return self.first <= frame_index <= self.last

    def within(self, frames: range) -> FaceTrack | None:
        """Its part in consecutive frames of the clip; None where it has none."""
        first, stop = max(self.first, frames.start), min(self.last + 1, frames.stop)
        if first >= stop:
            return None
        rows = slice(first - self.first, stop - self.first)
        return replace(
            self,
            first=first,
            landmarks_T682=self.landmarks_T682[rows],
            crops_T4=self.crops_T4[rows],
            measured_T=self.measured_T[rows],
        )

    def crop(self, frame_index: int) -> Crop:
        """The crop at a frame of the clip; IndexError outside ``first..last``."""
        self._check(frame_index)
        row = self.crops_T4[frame_index - self.first]
        return Crop.from_array(row, pixel_aspect=self.pixel_aspect)

    def landmarks(self, frame_index: int) -> npt.NDArray[np.float32]:
        """``[68, 2]`` landmarks at a frame of the clip; IndexError outside ``first..last``."""
        self._check(frame_index)
        return self.landmarks_T682[frame_index - self.first]

    def _check(self, frame_index: int) -> None:
        if not self.covers(frame_index):
            raise IndexError(
                f"track {self.id} spans frames {self.first}..{self.last}, got {frame_index}"
            )


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the first pass over a clip found.

    Attributes:
        num_frames: frames decoded.
        shots: (first, last) frame of each shot, inclusive, in order.
        tracks: every face track, by id.
    """

    num_frames: int
    shots: tuple[tuple[int, int], ...]
    tracks: tuple[FaceTrack, ...]

    def tracks_at(self, frame_index: int) -> tuple[FaceTrack, ...]:
        return tuple(track for track in self.tracks if track.covers(frame_index))


class RenderMode(enum.StrEnum):
    """What becomes of the generator's picture of a face; a method may render each otherwise."""

    INVERT = "invert"
    """The inversion's own picture is pasted: nothing is edited."""
    PASTE = "paste"
    """The edited picture is pasted."""
    TRANSFER = "transfer"
    """What the edit changes is carried to the full-resolution source (detail transfer)."""


@dataclass(frozen=True, slots=True)
class Inversion:
    """A batch of faces in a method's terms.

    Attributes:
        latents_NLD: ``[N, L, D]`` w+ codes; methods that work in W repeat the row L times.
        codes: what else the method needs to render them, by name: ``[N, ...]`` each. A method
            declares its codes (``vidinv.inversion.Inverter.codes``).
    """

    latents_NLD: torch.Tensor
    codes: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.latents_NLD.shape[0]

    @property
    def unedited(self) -> EditedLatents:
        """Its own latents, to render the inversion itself."""
        return EditedLatents(self.latents_NLD)

    def with_codes(self, names: Iterable[str]) -> Inversion:
        """The same with these of its codes only."""
        return Inversion(
            self.latents_NLD, {name: self.codes[name] for name in names if name in self.codes}
        )

    def on_cpu(self) -> Inversion:
        """The same in main memory."""
        codes = {name: code.cpu() for name, code in self.codes.items()}
        return Inversion(self.latents_NLD.cpu(), codes)


@dataclass(frozen=True, slots=True)
class EditedLatents:
    """What a generator renders from.

    Attributes:
        latents_NLD: ``[N, L, D]`` w+ codes.
        style_offsets: by layer (``"b8.conv0"``): ``[N, C]``, added to the styles that the layer's
            affine makes of its row of w+ (StyleSpace: Wu et al. 2021).
    """

    latents_NLD: torch.Tensor
    style_offsets: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> EditedLatents:
        """The same on a device."""
        offsets = {name: offset.to(device) for name, offset in self.style_offsets.items()}
        return EditedLatents(self.latents_NLD.to(device), offsets)

    def equals(self, other: EditedLatents) -> bool:
        """Whether both render the same pictures for certain."""
        same = torch.equal(self.latents_NLD, other.latents_NLD)
        return same and not self.style_offsets and not other.style_offsets


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Part of a clip, in seconds from its first frame: ``start`` is in it, ``end`` is not.

    Attributes:
        end: None is the end of the clip.
    """

    start: float = 0.0
    end: float | None = None

    def covers(self, seconds: float) -> bool:
        return self.start <= seconds and (self.end is None or seconds < self.end)

    def __str__(self) -> str:
        return f"from {self.start:g} s " + ("on" if self.end is None else f"to {self.end:g} s")


@dataclass(frozen=True, slots=True)
class EditSpec:
    """What to change, to whom, and when.

    Attributes:
        attributes: name -> strength over time, as keyframes (seconds, strength) in time order;
            one keyframe means a constant. Strength 1 is a clear, natural change. ``"1:age"`` is for
            face 1 alone, and has it edited too (``vidinv.editing.schedules.attributes_of``).
        method: inversion method, a key of ``vidinv.inversion.METHODS``.
        face: ``"largest"``, ``"all"``, persons' numbers from 0 (``0,3``), or a path of a
            reference picture.
        mode: what becomes of the generator's picture; ``INVERT`` ignores the attributes.
        seed: of the methods that draw random numbers (``Inverter.draws_random_numbers``).
        within: frames outside keep their pictures; None edits the whole clip.
        landmarks: who finds faces: ``"dlib"`` or ``"fan"``.
        max_frames: the output ends after so many frames, and begins where ``within`` does; None
            has all of the clip in it.
        occlusion: ``"auto"`` keeps the source where the pack's parsing network, if it has one,
            sees something in front of a face; ``"off"`` does not look.
    """

    attributes: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    method: str = "fse"
    face: str = "largest"
    mode: RenderMode = RenderMode.TRANSFER
    seed: int = 0
    within: TimeRange | None = None
    landmarks: str = "dlib"
    max_frames: int | None = None
    occlusion: str = "auto"

    @property
    def keeps_occluders(self) -> bool:
        """A parsing network is to look; an inversion is pasted in full: it is there to be seen."""
        return self.occlusion == "auto" and self.mode is not RenderMode.INVERT


@dataclass(frozen=True, slots=True)
class TrackSummary:
    """One edited track, as the JSON result lists it; frames are counted, first/last inclusive.

    ``id`` is the number that ``--face`` counts (``FaceTrack.person``): someone who leaves and
    returns is listed twice under one.
    """

    id: int
    first: int
    last: int
    frames: int


@dataclass(frozen=True, slots=True)
class IdentitySummary:
    """Identity figures of a run (mean-centred cosine; docs/REFERENCES.md, "Identity figures").

    ``ic_*`` is the identity consistency of the Feature-Style supplement, eq. 1: of each track to
    its own first frame, averaged over tracks; None without two frames of one to compare.
    """

    ic_source: float | None = None
    ic_output: float | None = None
    similarity_mean: float | None = None
    similarity_min: float | None = None


@dataclass(frozen=True, slots=True)
class ClipResult:
    """What ``edit`` and ``invert`` return and ``--json`` prints; names of fields are stable.

    ``frames_in_range`` of the ``frames`` were to be edited, all but with ``--start`` and ``--end``;
    ``frames_without_face`` counts those among them where no face was.
    """

    input: str
    output: str
    frames: int
    faces_edited: int
    frames_without_face: int
    tracks: tuple[TrackSummary, ...]
    method: str
    pack: str
    attributes: Mapping[str, Any]
    fps: float
    seconds: float
    peak_rss_mb: float
    identity: IdentitySummary
    warnings: tuple[str, ...] = ()
    frames_in_range: int = 0
    frames_held: int = 0  # lost to damage of the input: the last good picture is shown instead

    def as_dict(self) -> dict[str, Any]:
        """Plain types only, ready for ``json.dumps``."""
        return asdict(self)
