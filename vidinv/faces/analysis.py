"""The first pass over a clip: shots, and every face in them as a smooth track.

``analyse`` streams: it keeps a few gray frames and, per frame and face, kilobytes of landmarks.
Smoothing runs when a shot is over, with the whole track in view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from vidinv.faces.align import TIGHT, Alignment, stretched
from vidinv.faces.crops import as_displayed
from vidinv.faces.dlib_backend import dlib_backend
from vidinv.faces.persons import number_persons
from vidinv.faces.protocols import Backend
from vidinv.faces.search import analysis_gray, reduction, scale_points
from vidinv.faces.smooth import Smoothing, smooth_crops, smooth_landmarks
from vidinv.faces.track import RawTrack, ShotTracker, TrackingOptions
from vidinv.types import Analysis, FaceTrack, Frame, Image


def analyse(
    frames: Iterable[Frame],
    *,
    new_shot: Callable[[Image], int | None],
    alignment: Alignment,
    pixel_aspect: float = 1.0,
    backend: Backend | None = None,
    tracking: TrackingOptions | None = None,
    smoothing: Smoothing | None = None,
) -> Analysis:
    """Find the shots of a clip and follow every face through them.

    Args:
        frames: the clip, in display order; read once, never held.
        new_shot: called once per frame in order; where a new shot begins, how many frames before
            show both shots, else None (``vidinv.video.ShotDetector.update``).
        alignment: the crop of the pack in use.
        pixel_aspect: width over height of a pixel; faces are sought as a viewer sees them.
        backend: the networks; dlib's if not given.
        tracking: how often to look.
        smoothing: how much to average.

    Returns:
        Shots and tracks; frames are counted from 0 whatever ``Frame.index`` says.
    """
    backend = backend or dlib_backend()
    tracking, smoothing = tracking or TrackingOptions(), smoothing or Smoothing()
    shots: list[tuple[int, int]] = []
    tracks: list[FaceTrack] = []
    tracker: ShotTracker | None = None
    first, count, shape = 0, 0, (0, 0)  # shape as displayed

    def end_shot(mixed: int = 0) -> int:
        """Close the shot amid the frames that show the next one too; returns where that begins."""
        start = count - mixed // 2
        if tracker is None:
            return start
        shots.append((first, start - 1))
        scale = reduction(shape)
        for raw in tracker.finish(end=count - mixed):
            ids = {"id": len(tracks), "shot": len(shots) - 1}
            track = _smooth(raw, alignment, smoothing, scale=scale, **ids)
            tracks.append(_in_frame_pixels(track, pixel_aspect))
        return start

    for frame in frames:
        mixed = new_shot(frame.image)
        image = as_displayed(frame.image, pixel_aspect)
        if tracker is None or mixed is not None or image.shape[:2] != shape:
            first = end_shot(mixed or 0)
            tracker, shape = ShotTracker(backend, tracking, first=count), image.shape[:2]
        tracker.step(image, analysis_gray(image))
        count += 1
    end_shot()
    persons = number_persons(tracks, embedder=backend.embedder)
    return Analysis(num_frames=count, shots=tuple(shots), tracks=persons)


def _smooth(
    raw: RawTrack, alignment: Alignment, smoothing: Smoothing, *, scale: int, id: int, shot: int
) -> FaceTrack:
    """The finished track of a raw one, in pixels of the displayed frame."""
    landmarks = scale_points(np.stack(raw.landmarks), scale)
    measured = np.array(raw.measured)
    steady = smooth_landmarks(
        landmarks,
        np.stack(raw.flow) * scale,
        measured,
        side_px=float(np.median(np.hypot(*TIGHT.crops(landmarks)[:, 2:].T)) * 2),
        smoothing=smoothing,
    )
    return FaceTrack(
        id=id,
        shot=shot,
        first=raw.first,
        landmarks_T682=steady,
        crops_T4=smooth_crops(steady, alignment, smoothing),
        measured_T=measured,
        embedding=raw.embedding,
    )


def _in_frame_pixels(track: FaceTrack, pixel_aspect: float) -> FaceTrack:
    """A track found in the displayed frame as one of the frame itself."""
    if pixel_aspect == 1.0:
        return track
    landmarks = stretched(track.landmarks_T682, 1 / pixel_aspect)
    return replace(track, landmarks_T682=landmarks, pixel_aspect=pixel_aspect)
