"""Following faces through one shot: detect now and then, follow in between, ask "still a face?".

Every frame each face is carried along by optical flow and its landmarks are predicted anew there;
where the two disagree (a hand, a profile, blur) the frame counts as missed and the flow stands in.
Now and then the detector looks at the upright face itself, which finds it where a search of the
frame would not; a face it has not seen for a while is given up, back to where it was seen last.
New faces come from a search of the whole frame every few frames and are followed backwards to
where they appeared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vidinv.faces.align import TIGHT
from vidinv.faces.chips import (
    KNOWN_FACE_SCORE,
    best_roll,
    detect_in_chip,
    face_box,
    face_side,
    follow_landmarks,
    landmarks_of,
    refine_landmarks,
)
from vidinv.faces.protocols import (
    Backend,
    Detection,
    Embedding,
    Embeddings,
    Gray,
    Points,
    intersection_over_union,
)
from vidinv.faces.search import (
    SEARCH_SIDES_PX,
    FoundFace,
    detect_at,
    find_cut_off,
    find_rolled,
    scale_points,
    search_sides,
)
from vidinv.types import Image


@dataclass(frozen=True, slots=True)
class TrackingOptions:
    """How often to look, and when to believe; intervals in frames, scores in dlib's units.

    Attributes:
        seek_sides_px: long sides of the frame at which to search for faces, smallest first.
        seek_every: how often to search at each of these sides while no face is known.
        seek_rolled_every: how often to search for a face that is not upright while none is known.
        seek_cut_off_every: how often to search for a face that a side of the frame cuts in half.
        seek_more_every: how often to search at each side for further faces.
        verify_every: how often to ask the detector whether a followed face is still one.
        max_gap: how long a face may go unseen before its track ends.
        min_frames: shorter tracks are dropped, unless their shot is as short.
        agree: median distance of predicted from followed landmarks, in sides of the tight crop,
            up to which both are believed. Calm talk stays under 0.02, a hand goes over 0.08.
        new_score: least score of a new face, in the frame and in its upright chip.
        sure_score: score with which one sighting makes a track.
    """

    seek_sides_px: tuple[int, ...] = SEARCH_SIDES_PX
    seek_every: tuple[int, ...] = (5, 15, 60)
    seek_rolled_every: int = 30
    seek_cut_off_every: int = 15
    seek_more_every: tuple[int, ...] = (15, 45, 180)
    verify_every: int = 5
    max_gap: int = 15
    min_frames: int = 5
    agree: float = 0.05
    new_score: float = 0.0
    sure_score: float = 1.0


_SAME_FACE_OVERLAP = 0.3
_TRUST_IN_SEEN_SIDE = 0.3  # the detector's sizes come in steps of 20 %: average about three
_SIDE_TOLERANCE = 1.4  # a wide open mouth enlarges the landmarks' crop by up to 1.25
_DOUBLE_OVERLAP = 0.5  # two tracks this close follow the same face
_BELIEVED_FLOW = 0.5  # under this fraction of believable points the picture has changed
_EMBED_AT_SIGHTINGS = (1, 6)  # 12 ms each: at the start, and about a second later


@dataclass(slots=True)
class RawTrack:
    """A face as followed, before smoothing: one row per frame, from frame ``first``.

    ``side_px`` is the side of its tight crop in the last row, anchored to what the detector saw.
    """

    first: int
    landmarks: list[Points]
    flow: list[Points]
    measured: list[bool]
    side_px: float
    seen_row: int = 0
    sightings: int = 0
    best_score: float = -1.0
    suspect_row: int | None = None
    embeddings: list[Embedding] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.landmarks)

    @property
    def embedding(self) -> Embedding | None:
        return np.mean(self.embeddings, axis=0) if self.embeddings else None

    def append(self, landmarks: Points, *, flow: Points, measured: bool) -> None:
        self.landmarks.append(landmarks)
        self.flow.append(flow)
        self.measured.append(measured)

    def prepend(self, landmarks: Points, *, flow: Points) -> None:
        """Add the frame before the first; ``flow`` is what led from it to the first."""
        self.first -= 1
        self.seen_row += 1
        self.landmarks.insert(0, landmarks)
        self.flow[0] = flow
        self.flow.insert(0, np.zeros_like(flow))
        self.measured.insert(0, True)

    def see(self, score: float, side_px: float) -> None:
        """Note that the detector sees the face in the last row, and how large."""
        self.side_px *= (side_px / self.side_px) ** _TRUST_IN_SEEN_SIDE
        self.seen_row = len(self) - 1
        self.sightings += 1
        self.best_score = max(self.best_score, score)

    def suspect(self) -> None:
        """Note that from the last row on it may be someone else."""
        if self.suspect_row is None:
            self.suspect_row = len(self) - 1

    def cut(self, num_rows: int) -> None:
        """Forget the rows from ``num_rows`` on."""
        for rows in (self.landmarks, self.flow, self.measured):
            del rows[num_rows:]


class ShotTracker:
    """Follows every face of one shot; feed it frames in order, then ``finish``.

    Args:
        backend: the networks.
        options: how often to look, and when to believe.
        first: index of the shot's first frame.
    """

    def __init__(self, backend: Backend, options: TrackingOptions, *, first: int) -> None:
        self._backend, self._options = backend, options
        self._first, self._index = first, first - 1
        self._live: list[RawTrack] = []
        self._done: list[RawTrack] = []
        self._to_embed: list[RawTrack] = []
        # What a new face may be followed back through.
        self._recent: deque[Gray] = deque(maxlen=max(options.seek_every[:2]))

    def step(self, image: Image, gray: Gray) -> None:
        """Take the next frame: RGB, and the gray picture that coordinates refer to."""
        self._index += 1
        for track in self._live:
            self._follow(track, gray)
        age = self._index - self._first
        self._seek(image, gray, age)
        if age % self._options.verify_every == 0:
            self._verify(image, gray)
        self._embed_seen(image, gray)
        self._recent.append(gray)
        self._close_doubles()
        self._close_unseen()

    def finish(self, *, end: int | None = None) -> list[RawTrack]:
        """End the shot; the tracks worth keeping, in order of appearance, then left to right.

        Args:
            end: they end before this frame.
        """
        for track in self._live:
            self._close(track, tail=self._options.max_gap)
        self._live = []
        if end is not None:
            for track in self._done:
                track.cut(max(0, min(len(track), end - track.first)))
            self._done = [track for track in self._done if len(track)]
        kept = [track for track in self._done if self._worth_keeping(track)]
        return sorted(kept, key=lambda track: (track.first, track.landmarks[0][:, 0].mean()))

    def _follow(self, track: RawTrack, gray: Gray) -> None:
        before = track.landmarks[-1]
        motion = follow_landmarks(self._recent[-1], gray, before)
        track.side_px *= motion.growth
        found = refine_landmarks(gray, motion.landmarks, track.side_px, self._backend)
        flow_believed = motion.believed >= _BELIEVED_FLOW
        if flow_believed and self._agree(found, motion.landmarks, track.side_px):
            track.append(found, flow=motion.landmarks - before, measured=True)
            return
        score, side_px = detect_in_chip(gray, found, track.side_px, self._backend)
        if score >= self._options.new_score and _plausible(found, side_px):
            track.append(found, flow=found - before, measured=True)
            track.see(score, side_px)
        else:
            track.append(motion.landmarks, flow=motion.landmarks - before, measured=False)
        if not flow_believed:
            track.suspect()

    def _seek(self, image: Image, gray: Gray, age: int) -> None:
        """Search the frame at the sizes that are due; larger ones while nothing is known."""
        options = self._options
        every = options.seek_more_every if self._live else options.seek_every
        sides = search_sides(max(gray.shape), options.seek_sides_px)
        for rung, side_px in enumerate(sides):
            # A shot begins with two sizes, whoever is found at the first.
            due = age % every[rung] == 0 if age else rung < 2 or not self._live
            if due:
                for detection in detect_at(gray, side_px, self._backend):
                    self._take(detection, image, gray)
        if not self._live and age % options.seek_cut_off_every == 0:
            self._start_found(find_cut_off(gray, self._backend), image, gray)
        if not self._live and age % options.seek_rolled_every == 0:
            # A shot begins with a thorough look.
            side_px = sides[min(0 if age else 1, len(sides) - 1)]
            self._start_found(find_rolled(gray, side_px, self._backend), image, gray)

    def _start_found(self, face: FoundFace | None, image: Image, gray: Gray) -> None:
        if face is not None:
            self._start(face.landmarks, face.side_px, face.score, image, gray)

    def _take(self, detection: Detection, image: Image, gray: Gray) -> None:
        """Give a detection to the track it belongs to, or start one."""
        if detection.score < self._options.new_score:
            return
        for track in self._live:
            box = face_box(track.landmarks[-1])
            if intersection_over_union(box, detection.box) >= _SAME_FACE_OVERLAP:
                if not track.measured[-1]:
                    track.landmarks[-1] = landmarks_of(gray, detection, self._backend)
                    track.measured[-1] = True
                self._see(track, detection.score, face_side(detection.box), image, gray)
                return
        landmarks = landmarks_of(gray, detection, self._backend)
        self._start(landmarks, face_side(detection.box), detection.score, image, gray)

    def _start(
        self, landmarks: Points, side_px: float, seen_score: float, image: Image, gray: Gray
    ) -> None:
        score, side_px = detect_in_chip(gray, landmarks, side_px, self._backend)
        if score < self._options.sure_score:
            before = landmarks
            landmarks, side_px, score = best_roll(gray, before, side_px, score, self._backend)
            if landmarks is not before:
                seen_score = score
        if score < self._options.new_score or self._known(landmarks):
            return
        flow = np.zeros_like(landmarks)
        track = RawTrack(self._index, [landmarks], [flow], [True], side_px=side_px)
        self._see(track, min(score, seen_score), side_px, image, gray)
        self._follow_back(track, gray)
        self._live.append(track)

    def _known(self, landmarks: Points) -> bool:
        """Whether a face that is followed is there already."""
        box = face_box(landmarks)
        overlaps = (intersection_over_union(face_box(t.landmarks[-1]), box) for t in self._live)
        return any(overlap >= _SAME_FACE_OVERLAP for overlap in overlaps)

    def _follow_back(self, track: RawTrack, gray: Gray) -> None:
        """Extend a new track to the frames before it, as far as the face can be followed."""
        side_px = track.side_px
        for before in reversed(self._recent):
            here = track.landmarks[0]
            motion = follow_landmarks(gray, before, here)
            side_px *= motion.growth
            found = refine_landmarks(before, motion.landmarks, side_px, self._backend)
            agree = self._agree(found, motion.landmarks, side_px)
            if motion.believed < _BELIEVED_FLOW or not agree:
                return
            score, _ = detect_in_chip(before, found, side_px, self._backend)
            if score < KNOWN_FACE_SCORE:
                return
            track.prepend(found, flow=here - motion.landmarks)
            gray = before

    def _verify(self, image: Image, gray: Gray) -> None:
        for track in list(self._live):
            if track.measured[-1] and track.seen_row < len(track) - 1:
                landmarks = track.landmarks[-1]
                score, side_px = detect_in_chip(gray, landmarks, track.side_px, self._backend)
                if score >= KNOWN_FACE_SCORE:
                    self._see(track, score, side_px, image, gray)

    def _agree(self, found: Points, followed: Points, side_px: float) -> bool:
        """Whether prediction and flow say the same, and it looks like a face of that size."""
        apart = float(np.median(np.linalg.norm(found - followed, axis=1)))
        return apart <= self._options.agree * side_px and _plausible(found, side_px)

    def _see(self, track: RawTrack, score: float, side_px: float, image: Image, gray: Gray) -> None:
        track.see(score, side_px)
        if track.suspect_row is not None:
            self._settle_suspicion(track, score, image, gray)
        elif track.sightings in _EMBED_AT_SIGHTINGS:
            self._to_embed.append(track)

    def _settle_suspicion(self, track: RawTrack, score: float, image: Image, gray: Gray) -> None:
        """After a doubtful moment: the same person goes on; another one is looked for anew, as at
        the start of a shot, since these landmarks were carried over from someone else's face.
        """
        row, known = track.suspect_row, track.embedding
        track.suspect_row = None
        embedder = self._backend.embedder
        (embedding,) = self._embed([track], image, gray)
        if known is None or embedder.distance(known, embedding) <= embedder.same_person_distance:
            return
        if not row:
            track.embeddings = [embedding]
            return
        landmarks, side_px = track.landmarks[-1], track.side_px
        track.cut(row)
        track.seen_row = min(track.seen_row, row - 1)
        self._close(track, tail=self._options.verify_every)
        self._live = [live for live in self._live if live is not track]
        for _ in range(len(self._recent) - (self._index - track.first - row)):
            self._recent.popleft()  # nobody is followed back to before that moment
        for searched_px in search_sides(max(gray.shape), self._options.seek_sides_px)[:2]:
            for detection in detect_at(gray, searched_px, self._backend):
                self._take(detection, image, gray)
        self._start(landmarks, side_px, score, image, gray)  # unless it was found

    def _embed_seen(self, image: Image, gray: Gray) -> None:
        """Embed together the faces of this frame whose time it is."""
        if self._to_embed:
            found = self._embed(self._to_embed, image, gray)
            for track, embedding in zip(self._to_embed, found, strict=True):
                track.embeddings.append(embedding)
            self._to_embed = []

    def _embed(self, tracks: Sequence[RawTrack], image: Image, gray: Gray) -> Embeddings:
        scale = image.shape[1] / gray.shape[1]
        points = [scale_points(track.landmarks[-1], scale) for track in tracks]
        return self._backend.embedder.embed_all((image, one) for one in points)

    def _close_doubles(self) -> None:
        """Where two tracks have come to the same face keep the one known longer."""
        for track in sorted(self._live, key=lambda live: -live.sightings):
            if not any(track is live for live in self._live):
                continue
            for other in list(self._live):
                boxes = face_box(track.landmarks[-1]), face_box(other.landmarks[-1])
                if other is track or intersection_over_union(*boxes) < _DOUBLE_OVERLAP:
                    continue
                self._close(other, tail=0)
                self._live = [live for live in self._live if live is not other]
                track.suspect()

    def _close_unseen(self) -> None:
        for track in list(self._live):
            if len(track) - 1 - track.seen_row > self._options.max_gap:
                self._close(track, tail=self._options.verify_every - 1)
                self._live = [live for live in self._live if live is not track]

    def _close(self, track: RawTrack, *, tail: int) -> None:
        """End a track: after the last sighting keep up to ``tail`` frames that were measured."""
        end = track.seen_row + 1
        while end < len(track) and end - track.seen_row <= tail and track.measured[end]:
            end += 1
        track.cut(end)
        self._done.append(track)

    def _worth_keeping(self, track: RawTrack) -> bool:
        shot_length = self._index - self._first + 1
        if shot_length <= self._options.min_frames:
            return True
        sure = track.sightings > 1 or track.best_score >= self._options.sure_score
        return sure and len(track) >= self._options.min_frames


def _plausible(landmarks: Points, side_px: float) -> bool:
    """Whether landmarks span a face as large as the detector says."""
    return 1 / _SIDE_TOLERANCE < TIGHT.crop(landmarks).side_px / side_px < _SIDE_TOLERANCE
