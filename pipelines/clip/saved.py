"""``--latents``: what a run keeps of a clip, so that the next edit of it starts at rendering.

A clip has a folder with its plan and a file for each segment (``vidinv.latents``). Both are used
only where the same clip, networks, faces and segments decided them; otherwise they are computed
again, and replaced.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pipelines.clip.plan import ClipPlan, Segment, build_plan, save_plan
from vidinv.arrays import as_decode_error, read_arrays, write_arrays
from vidinv.editing.schedules import attributes_of, face_and_name, is_zero, named_faces
from vidinv.errors import DecodeError, UsageError
from vidinv.faces import DEFAULT_LANDMARKS
from vidinv.inversion import TrackState, find_method
from vidinv.inversion.state import distinct_states, state_path
from vidinv.latents import (
    PLAN_FILE,
    SEGMENT_FILES,
    SegmentLatents,
    TrackLatents,
    join_tracks,
    read_latents,
    write_latents,
)
from vidinv.packs import Pack
from vidinv.types import EditSpec, Inversion, RenderMode
from vidinv.version import __version__

# Raise it when analysis or inversion give other numbers than before.
LATENTS_VERSION = 10
STATES_FILE = "states.safetensors"
STATE_FILES = "*.state.safetensors"
_HASHED_BYTES = 2**20  # of both ends: headers and indices of media files lie there

Key = Mapping[str, Any]


def clip_folder(latents: Path, name: str) -> Path:
    """Folder of a clip; its suffix keeps it apart from the clip itself and from outputs."""
    return latents / f"{name}.latents"


def check_folder(latents: Path, *, cleared: Path) -> None:
    """Whether ``--latents`` may be there; nothing is written.

    Args:
        cleared: folder in which a run removes what it does not know.

    Raises:
        UsageError: it may not.
    """
    path = latents.absolute()
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(cleared)):
        raise UsageError(f"--latents {latents}: --restart would remove it there; give another")
    there = next(p for p in (path, *path.parents) if os.path.lexists(p))
    if not there.is_dir():
        raise UsageError(f"--latents {latents}: {there} is not a folder")


def key_of(clip: Path, *, pack: Pack, spec: EditSpec, segment_frames: int) -> Key:
    """What decides plan and inversions of a clip, in plain types.

    A clip is known by its size and the hash of its first and last MiB, a reference picture by the
    hash of it, a pack by the networks of the method and by what that chooses on this machine.

    Raises:
        DecodeError: there is no such clip.
    """
    if not clip.is_file():
        raise DecodeError(f"{clip}: no such file")
    face = Path(spec.face)
    key = {
        "clip": _fingerprint(clip),
        "pack": pack.name,
        "networks": pack.inversion_digest(spec.method),
        "method": spec.method,
        "face": _fingerprint(face) if face.is_file() else spec.face,
        **_own_attributes(spec),
        "segment_frames": segment_frames,
        "version": f"{__version__}/{LATENTS_VERSION}",
        **pack.local_choices(spec.method),
    }
    if spec.within is not None:
        key["range of time"] = [spec.within.start, spec.within.end]
    if spec.landmarks != DEFAULT_LANDMARKS:
        key["landmarks"] = spec.landmarks
    return {**key, "seed": spec.seed} if find_method(spec.method).draws_random_numbers else key


def _own_attributes(spec: EditSpec) -> dict[str, Any]:
    """Where faces have attributes of their own: who has something to change, others included."""
    named = named_faces(spec.attributes)
    if spec.mode is RenderMode.INVERT or not named:
        return {}
    edited = {str(n): not is_zero(attributes_of(spec.attributes, n)) for n in named}
    everyones = {n: keys for n, keys in spec.attributes.items() if face_and_name(n)[0] is None}
    return {"attributes_of_faces": {**edited, "others": not is_zero(everyones)}}


def _fingerprint(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(_HASHED_BYTES))
        file.seek(max(0, size - _HASHED_BYTES))
        digest.update(file.read(_HASHED_BYTES))
    return f"{size}-{digest.hexdigest()}"


@dataclass(frozen=True)
class SavedClip:
    """The folder of one clip; the one above it is made at once, so that no work is lost to it.

    Attributes:
        key: of this run.
        notes: what a person should know: what was there and is not used.
    """

    folder: Path
    key: Key
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder} is a file: give another folder for latents")
        if (self.folder / PLAN_FILE).is_dir():
            raise UsageError(f"{self.folder / PLAN_FILE} is a folder: move it away")
        self.folder.parent.mkdir(parents=True, exist_ok=True)

    def plan(self, clip: Path) -> ClipPlan | None:
        """The plan that was kept, for the clip where it lies now; None where it is of no use."""
        path = self.folder / PLAN_FILE
        try:
            arrays, facts = read_arrays(path)
            if others := self._others(facts.get("key")):
                self.notes.append(
                    f"{self.folder} was made with another {', '.join(others)}: it is not used"
                )
                return None
            plan = build_plan(path, arrays, facts)
        except FileNotFoundError:
            return None
        except DecodeError as error:
            self.notes.append(f"{error}; it is not used")
            return None
        return replace(plan, info=replace(plan.info, path=str(clip.absolute())))

    def _others(self, key: Any) -> list[str]:
        """What another key says otherwise, by name."""
        theirs = key if isinstance(key, dict) else {}
        return [n for n in {**self.key, **theirs} if theirs.get(n) != self.key.get(n)]

    def keep(self, plan: ClipPlan) -> None:
        """Begin anew with a plan: inversions that do not go with it are removed first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        old = (SEGMENT_FILES, STATES_FILE, STATE_FILES, ".*.part")
        for path in (path for pattern in old for path in self.folder.glob(pattern)):
            path.unlink(missing_ok=True)
        save_plan(self.folder / PLAN_FILE, plan)

    def join(self, plan: ClipPlan) -> None:
        """Write the plan where it is not, for a run that was begun without this folder.

        Others may be rendering segments of it, so that no file which they may just have written is
        removed: it is replaced when its segment is rendered, and its key keeps it out until then.
        """
        if self.plan(Path(plan.info.path or "")) is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        ours = {self.segment_path(segment) for segment in plan.segments}
        for path in {*self.folder.glob(SEGMENT_FILES)} - ours:
            path.unlink(missing_ok=True)
        save_plan(self.folder / PLAN_FILE, plan)

    def segment_path(self, segment: Segment) -> Path:
        """The file of a segment's inversions."""
        return self.folder / f"{segment.number:05d}.safetensors"

    def keep_states(self, states: Mapping[int, TrackState]) -> None:
        """What the method fitted to each track, by id; states of earlier fits go."""
        digests = {str(number): state.digest for number, state in states.items()}
        for state in distinct_states(states):
            state.save(self.folder)
        write_arrays(self.folder / STATES_FILE, {}, {"key": self.key, "states": digests})
        kept = {state_path(self.folder, digest) for digest in digests.values()}
        for path in {*self.folder.glob(STATE_FILES)} - kept:
            path.unlink(missing_ok=True)

    def states(self) -> dict[int, TrackState] | None:
        """What ``keep_states`` kept; None where it is of no use."""
        try:
            _, facts = read_arrays(self.folder / STATES_FILE)
            if facts.get("key") != self.key:
                return None
            with as_decode_error(self.folder / STATES_FILE):
                digests = {int(number): digest for number, digest in facts["states"].items()}
            found = {d: TrackState.load(self.folder, d) for d in {*digests.values()}}
            return {number: found[digest] for number, digest in digests.items()}
        except FileNotFoundError:
            return None
        except DecodeError as error:
            self.notes.append(f"{error}; it is fitted again")
            return None

    def inversions(
        self,
        plan: ClipPlan,
        states: Mapping[int, TrackState],
        dtypes: Mapping[str, torch.dtype],
    ) -> SegmentStore:
        """For ``FaceEditor``; serves one thread.

        Args:
            states: that the inversions are made with.
            dtypes: of the method's codes on disk.
        """
        digests = {number: state.digest for number, state in states.items()}
        return SegmentStore(self, plan, digests, dtypes)


class SegmentStore:
    """Inversions of a clip, a file for each segment (``vidinv.rendering.SavedInversions``).

    Memory is bounded by two segments: the one read last, and the one that is being computed. A
    segment is written when its last face is there; one that was interrupted leaves no file.
    """

    def __init__(
        self,
        saved: SavedClip,
        plan: ClipPlan,
        states: Mapping[int, str],
        dtypes: Mapping[str, torch.dtype],
    ) -> None:
        self._saved, self._plan, self._states, self._dtypes = saved, plan, states, dtypes
        self._opened: tuple[int, SegmentLatents | None] = (-1, None)
        self._computed: dict[int, dict[int, list[TrackLatents]]] = {}

    def get(self, track: int, frames: range, *, codes: Set[str]) -> Inversion | None:
        """From the file of the segment that the frames lie in."""
        segment = self._segment(frames)
        if self._opened[0] != segment.number:
            self._opened = (segment.number, self._read(segment))
        found = self._opened[1]
        if found is None or not codes <= found.codes:
            return None
        return found.tracks[track].at(frames).with_codes(codes)

    def put(self, track: int, frames: range, inversion: Inversion) -> None:
        """Keep it; a segment that is complete goes to disk."""
        segment = self._segment(frames)
        computed = self._computed.setdefault(segment.number, {})
        kept = inversion.on_cpu()
        part = TrackLatents(frames.start, kept.latents_NLD, kept.codes)
        computed.setdefault(track, []).append(part)
        wanted = self._wanted(segment)
        count = sum(len(part.frames) for parts in computed.values() for part in parts)
        if count < sum(len(indices) for indices in wanted.values()):
            return
        tracks = {number: join_tracks(computed[number]) for number in wanted}
        del self._computed[segment.number]
        self._saved.folder.mkdir(parents=True, exist_ok=True)
        found = SegmentLatents(self._saved.key, tracks, self._states)
        write_latents(self._saved.segment_path(segment), found, self._dtypes)

    def _segment(self, frames: range) -> Segment:
        """Segments begin with a chunk, so that a chunk lies in one of them."""
        return next(s for s in self._plan.segments if s.first <= frames.start <= s.last)

    def _wanted(self, segment: Segment) -> dict[int, range]:
        """The frames of each track in a segment."""
        spans = {
            track.id: range(max(track.first, segment.first), min(track.last, segment.last) + 1)
            for track in self._plan.analysis.tracks
        }
        return {number: span for number, span in spans.items() if span}

    def _read(self, segment: Segment) -> SegmentLatents | None:
        path = self._saved.segment_path(segment)
        try:
            found = read_latents(path, self._saved.key)
        except FileNotFoundError:
            return None
        except DecodeError as error:
            self._saved.notes.append(f"{error}; it is computed again")
            return None
        if found is not None:
            spans = {number: track.frames for number, track in found.tracks.items()}
            if spans == self._wanted(segment) and found.states == self._states:
                return found
        self._saved.notes.append(f"{path} is of another run: it is computed again")
        return None
