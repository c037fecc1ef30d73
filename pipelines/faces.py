"""``vidinv faces``: who is in a clip or picture, by the numbers that ``--face`` takes.

The first pass of ``edit`` over the clip, and a second one where a contact sheet or an overlay is
wanted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.clip.networks import Networks
from pipelines.clip.plan import ClipPlan
from pipelines.clip.planning import plan_clip
from pipelines.meter import Progress
from pipelines.overlay import draw_faces
from pipelines.parallel import Prefetch
from pipelines.process import set_up_process
from vidinv.errors import DecodeError, UsageError
from vidinv.faces import (
    DEFAULT_LANDMARKS,
    FFHQ,
    crop_scale_of,
    extract_crop,
    select_tracks,
    whole_alignment,
)
from vidinv.faces.crops import as_uint8
from vidinv.packs import Pack
from vidinv.paths import check_input, check_replaceable, sole_writer
from vidinv.sheets import Picture, captioned
from vidinv.types import EditSpec, FaceTrack, Frame, RenderMode
from vidinv.video import (
    EncodeOptions,
    VideoInfo,
    check_kind,
    choose_encoder,
    is_image_path,
    open_reader,
    open_writer,
    read_image,
    write_image,
)

COLUMNS = 8
TILE_PX = 176


@dataclass(frozen=True)
class FacesRequest:
    """Whose faces to list.

    Attributes:
        pack: that an edit is to be made with: its crop decides which face is the largest.
        sheet: picture to write, with a crop of each track; None writes none.
        overlay: clip or picture to write, with crops, landmarks and masks drawn over the input;
            None writes none.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        landmarks: who finds faces: ``"dlib"`` or ``"fan"``.
        on_error: what becomes of damage: ``"stop"`` or ``"skip"`` (``open_reader``).
    """

    input: Path
    pack: Pack
    sheet: Path | None = None
    overlay: Path | None = None
    device: str = "auto"
    landmarks: str = DEFAULT_LANDMARKS
    on_error: str = "stop"
    overwrite: bool = False


@dataclass(frozen=True)
class FoundTrack:
    """One face while it is followed without a gap, within one shot.

    Attributes:
        id: number that ``--face`` counts; someone who leaves and returns has several tracks.
        first, last: frames, inclusive; ``*_seconds``: their times, from the clip's start.
        size_px: side of the square that the generator sees, in rows of the frame: its median.
        largest: ``--face largest`` takes it.
    """

    id: int
    first: int
    last: int
    frames: int
    first_seconds: float
    last_seconds: float
    size_px: int
    largest: bool


@dataclass(frozen=True)
class FoundFaces:
    """What ``vidinv faces --json`` prints; tracks by number, then time."""

    input: str
    sheet: str | None
    frames: int
    shots: int
    tracks: tuple[FoundTrack, ...]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain types only, ready for ``json.dumps``."""
        return asdict(self)


def run(request: FacesRequest, *, progress: Progress | None = None) -> FoundFaces:
    """Find the faces, and write the sheet where one is wanted and somebody is there.

    Raises:
        UsageError: an invalid request, or a pack that seeks no faces.
        MediaError: an input that cannot be read, or a sheet that cannot be written.
    """
    _check(request)
    progress = progress or Progress()
    set_up_process()
    with contextlib.ExitStack() as stack:
        for path in filter(None, (request.sheet, request.overlay)):
            stack.enter_context(sole_writer(path))
        return _run(request, progress)


def _check(request: FacesRequest) -> None:
    check_input(request.input)
    check_kind(request.input)
    if whole_alignment(request.pack.alignment) is not None:
        raise UsageError(f"pack {request.pack.name} edits whole frames: it seeks no faces")
    if request.sheet is not None:
        if not is_image_path(request.sheet):
            raise UsageError(f"{request.sheet}: the sheet is a picture, as faces.png")
        check_replaceable(request.sheet, sources=[request.input], overwrite=request.overwrite)
    if request.overlay is not None:
        check_kind(request.overlay)
        sources = [request.input, *([request.sheet] if request.sheet is not None else [])]
        check_replaceable(request.overlay, sources=sources, overwrite=request.overwrite)
        if is_image_path(request.input) != is_image_path(request.overlay):
            raise UsageError(f"{request.overlay} is no picture or clip as {request.input} is one")
        if not is_image_path(request.overlay):
            choose_encoder(request.overlay, EncodeOptions())


def _run(request: FacesRequest, progress: Progress) -> FoundFaces:
    backend = Networks(request.pack, device=request.device, landmarks=request.landmarks).backend
    with _opened(request) as source:
        counted = progress.track(source.frames, label="faces", total=source.info.num_frames)
        with Prefetch(counted, depth=4, name="decode") as decoded:
            everyone = EditSpec(face="all", mode=RenderMode.INVERT)
            plan = plan_clip(
                decoded, source.info, pack=request.pack, backend=backend, spec=everyone
            )
        notes = list(source.notes())
    tracks = sorted(plan.analysis.tracks, key=lambda track: (track.person, track.first))
    largest = select_tracks(plan.analysis, "largest", backend=backend, load_image=read_image)
    chosen = {track.id for track in largest}
    found = [_found(track, plan, is_largest=track.id in chosen) for track in tracks]
    if not tracks:
        notes.append(f"no face found in {request.input}")
    tiles = _Tiles(tracks if request.sheet is not None else ())
    if tracks and request.overlay is not None:
        notes += _write_overlay(request, tracks, progress, tiles)
    elif tracks and request.sheet is not None:
        with _opened(request) as source:
            total = tiles.last_frame + 1
            for frame in progress.track(source.frames, label="sheet", total=total):
                tiles.take(frame)
                if tiles.is_complete:
                    break
    if tracks and request.sheet is not None:
        if not tiles.is_complete:
            raise DecodeError(
                f"{request.input} has fewer frames than before: it was changed meanwhile"
            )
        write_image(request.sheet, _sheet(found, [tiles.pictures[track.id] for track in tracks]))
    return FoundFaces(
        input=str(request.input),
        sheet=str(request.sheet) if request.sheet is not None and tracks else None,
        frames=plan.analysis.num_frames,
        shots=len(plan.analysis.shots),
        tracks=tuple(found),
        warnings=tuple(notes),
    )


class _Tiles:
    """Each face in the middle of its sightings, by track.

    Args:
        tracks: of which a picture is wanted.
    """

    def __init__(self, tracks: Sequence[FaceTrack]) -> None:
        self.pictures: dict[int, Picture] = {}
        self._wanted: dict[int, list[FaceTrack]] = {}
        self._count = len(tracks)
        for track in tracks:
            rows = np.flatnonzero(track.measured_T)
            row = int(rows[len(rows) // 2]) if len(rows) else track.num_frames // 2
            self._wanted.setdefault(track.first + row, []).append(track)

    @property
    def last_frame(self) -> int:
        """The last that it wants to see."""
        return max(self._wanted)

    @property
    def is_complete(self) -> bool:
        """It has all of them."""
        return len(self.pictures) == self._count

    def take(self, frame: Frame) -> None:
        """The next frame of the clip."""
        for track in self._wanted.get(frame.index, ()):
            crop = FFHQ.crop(track.landmarks(frame.index), pixel_aspect=track.pixel_aspect)
            self.pictures[track.id] = as_uint8(extract_crop(frame.image, crop, TILE_PX))


def _write_overlay(
    request: FacesRequest, tracks: Sequence[FaceTrack], progress: Progress, tiles: _Tiles
) -> Sequence[str]:
    """The input with its faces drawn in; ``tiles`` see its frames. Returns what the writer says."""
    assert request.overlay is not None
    scale = crop_scale_of(request.pack.alignment)
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(_opened(request))
        if is_image_path(request.overlay):
            (frame,) = source.frames
            tiles.take(frame)
            drawn = draw_faces(as_uint8(frame.image), 0, tracks, crop_scale=scale)
            write_image(request.overlay, drawn)
            return ()
        info = source.info
        shown = info.of_pictures(width=info.width, height=info.height)
        shown = replace(shown, sample_aspect_ratio=info.sample_aspect_ratio)
        writer = stack.enter_context(open_writer(request.overlay, source=shown))
        for frame in progress.track(source.frames, label="overlay", total=info.num_frames):
            tiles.take(frame)
            image = draw_faces(as_uint8(frame.image), frame.index, tracks, crop_scale=scale)
            writer.write(replace(frame, image=image, alpha=None, captions=b""))
    return writer.warnings


@dataclass(frozen=True)
class _Source:
    """An input that is open; ``notes``: of its damage, after the last frame."""

    info: VideoInfo
    frames: Iterable[Frame]
    notes: Callable[[], Sequence[str]] = tuple


@contextlib.contextmanager
def _opened(request: FacesRequest) -> Iterator[_Source]:
    if is_image_path(request.input):
        image = read_image(request.input)
        info = VideoInfo.from_scratch(width=image.shape[1], height=image.shape[0], rate=1)
        yield _Source(info, [Frame(index=0, pts=0, time_base=Fraction(1), image=image)])
        return
    with open_reader(request.input, on_error=request.on_error) as reader:
        yield _Source(reader.info, reader, lambda: reader.notes)


def _found(track: FaceTrack, plan: ClipPlan, *, is_largest: bool) -> FoundTrack:
    pts, time_base = plan.times_T2[:, 0], plan.info.time_base
    first, last = (float((pts[i] - pts[0]) * time_base) for i in (track.first, track.last))
    return FoundTrack(
        id=track.person,
        first=track.first,
        last=track.last,
        frames=track.num_frames,
        first_seconds=round(first, 3),
        last_seconds=round(last, 3),
        size_px=round(2 * float(np.median(np.hypot(*track.crops_T4[:, 2:].T)))),
        largest=is_largest,
    )


def _sheet(found: Sequence[FoundTrack], pictures: Sequence[Picture]) -> Picture:
    """A tile of each track under its number, times and size, in rows that are filled up."""
    tiles = [
        (
            f"face {track.id}",
            captioned(
                picture,
                f"{track.first_seconds:.1f}-{track.last_seconds:.1f} s, {track.size_px} px",
            ),
        )
        for track, picture in zip(found, pictures, strict=True)
    ]
    columns = min(COLUMNS, len(tiles))
    blank = ("", np.full_like(tiles[0][1], 255))
    tiles += [blank] * (-len(tiles) % columns)
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return np.concatenate([np.concatenate([captioned(p, t) for t, p in row], 1) for row in rows])
