"""How far a tracked face is to be edited: less in profile, and where its landmarks are guesses.

Generators of faces have seen hardly a profile, and a face that was not seen for some frames is
where flow carried it. An edit of either is not to be trusted, so it fades out before and in again
afterwards, evenly in both directions of time, instead of showing or popping.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vidinv.faces.align import stretched, to_complex
from vidinv.faces.smooth import gaussian
from vidinv.types import FaceTrack, FloatArray

# Share of the face's width between its jaws that the nose leaves on its narrower side: 0.5 seen
# from the front, less the more the head is turned. Of the training faces 0.1 % have less than the
# second number and none less than 0.08; heads turned by about 40 degrees have 0.18 (docs/LOG.md).
PROFILE = (0.03, 0.13)
CONFIDENCE_FRAMES = 4.0  # standard deviation of the average over time, as that of landmarks
HARDLY = 0.5  # share of an edit that shows, on average over a track: less is said
_NOSE_TIP = 30
_LEFT_JAW, _RIGHT_JAW = slice(1, 4), slice(13, 16)


def track_confidence(track: FaceTrack) -> npt.NDArray[np.float64]:
    """``[T]`` in 0..1 of each frame of a track; exactly 1 where all around is seen from the front.

    A square of the frame that is no face has 1 throughout.
    """
    if not track.is_face:
        return np.ones(track.num_frames)
    seen = stretched(track.landmarks_T682, track.pixel_aspect)
    turned = frontal_share(seen, track.crops_T4)
    low, high = PROFILE
    t = np.clip((turned - low) / (high - low), 0.0, 1.0)
    return gaussian(t * t * (3.0 - 2.0 * t) * track.measured_T, CONFIDENCE_FRAMES)


def faded_notes(tracks: Sequence[FaceTrack]) -> list[str]:
    """A line for each person about the tracks in which less than half of an edit shows."""
    faded: dict[int, list[str]] = {}
    for track in tracks:
        if track_confidence(track).mean() < HARDLY:
            first, last = track.first, track.last
            frames = f"frame {first}" if first == last else f"frames {first} to {last}"
            faded.setdefault(track.person, []).append(frames)
    return [
        f"face {person} is hardly edited in {', '.join(frames)}: "
        "there mostly seen from the side, or not at all"
        for person, frames in sorted(faded.items())
    ]


def frontal_share(
    landmarks_T682: FloatArray, crops_T4: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """``[T]``, 0.5 seen from the front to 0 in profile (``PROFILE``).

    Args:
        landmarks_T682: in square pixels.
        crops_T4: as ``FaceTrack.crops_T4``; they say what is sideways in a rolled head.
    """
    axis = to_complex(crops_T4[:, 2:])
    sideways = (to_complex(landmarks_T682) * (axis / np.abs(axis)).conj()[:, None]).real
    nose = sideways[:, _NOSE_TIP]
    left = np.maximum(nose - sideways[:, _LEFT_JAW].mean(1), 0.0)
    right = np.maximum(sideways[:, _RIGHT_JAW].mean(1) - nose, 0.0)
    return np.minimum(left, right) / np.maximum(left + right, np.finfo(float).tiny)
