"""Finding cuts, dissolves and fades while frames stream by: nothing is tracked or smoothed across.

Two neighbouring frames are compared by the structural term of SSIM (Wang et al. 2004, eq. 10) on
small blurred thumbnails: gain and offset of brightness cancel, so a flash is no cut, and pixels
that a flash clips are left out. A flat picture (black, white, a colour) has no structure to compare
and is told from a real one by that alone. A cut must also stand out from the frames before it,
which fast motion does not.

A dissolve is found where the frames since an earlier one are mixtures of that frame and this one,
in rising shares: motion is no mixture of where things were and where they are. It is known when
about two thirds of it are over. A fade ends a shot where nothing is left to see; what fades in from
there begins with the flat picture.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.types import Image

THUMBNAIL_PX = 48
# Measured on 14 clips: the three real cuts among them score 0.68-0.98, at least 11 times the scores
# before; cuts made between any two clips score 0.35 or more; the fastest motion (a face that fills
# the picture) scores 0.28, 2.6 times those before; flashes score 0.15 or less.
CUT_SCORE = 0.32
MIN_RATIO_TO_RECENT = 3.0
NUM_RECENT = 4
# A thumbnail pixel this bright may hold clipped ones, where gain no longer cancels.
CLIPPED_LEVEL = 225
MIN_USABLE = 0.1  # with less of the picture left there is nothing to compare: same shot
NOISE_VARIANCE = 9.0  # SSIM's C: black or flat frames with noise are alike
# Spread in levels over a thumbnail: flat below the first, a picture above the second. One between
# belongs to either: the steps of a fade go through there.
FLAT_LEVELS, PICTURE_LEVELS = 3.0, 12.0
# Frames back to which a mixture is sought: by then dissolves of 5 to 30 frames are two thirds over.
SPANS = (4, 6, 8, 12, 16, 20, 24, 28)
# How much the two pictures must differ, and how much of that difference a frame in between may have
# that is no mixture of them: 0.05 at the least difference, rising to 0.08. docs/LOG.md.
MIXED_SCORE = 0.4
MIXED_REST, MIXED_REST_RISE, MOST_REST = 0.05, 0.3, 0.08
# Shares of the new picture: from what on a frame shows it; how far they may fall from one frame to
# the next; and that this many frames have both pictures clearly.
SHOWN_SHARE, SHARE_FALL = 0.08, 0.08
CLEAR_SHARES, MIN_CLEAR = (0.15, 0.85), 2

_Thumbnail = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]


class ShotDetector:
    """Says at each frame of a clip, in order, whether a new shot begins there."""

    def __init__(self) -> None:
        self._previous: _Thumbnail | None = None
        self._recent: deque[float] = deque(maxlen=NUM_RECENT)
        self._shot: deque[npt.NDArray[np.float32]] = deque(maxlen=SPANS[-1] + 1)  # less their means
        self._has_picture = False

    def update(self, image: Image) -> int | None:
        """Whether ``image`` ``[H, W, 3]``, the next frame, starts a new shot; the first one does.

        Returns:
            None where it does not, else how many frames before it show both shots: 0 at a cut.
        """
        current = _thumbnail(image)
        previous, self._previous = self._previous, current
        if previous is None or self._is_cut(previous, current) or self._has_faded(current):
            self._begin(current)
            return 0
        self._has_picture |= float(current[0].std()) > PICTURE_LEVELS
        self._shot.append(_centred(current))
        mixed = _mixed_frames(self._shot)
        if mixed:
            self._begin(current)
        return mixed or None

    def _begin(self, current: _Thumbnail) -> None:
        """A new shot, with this frame as its first."""
        self._recent.clear()
        self._shot.clear()
        self._shot.append(_centred(current))
        self._has_picture = float(current[0].std()) > PICTURE_LEVELS

    def _is_cut(self, previous: _Thumbnail, current: _Thumbnail) -> bool:
        score = _difference(previous, current)
        if score > CUT_SCORE and score > MIN_RATIO_TO_RECENT * max(self._recent, default=0.0):
            return True
        self._recent.append(score)
        return False

    def _has_faded(self, current: _Thumbnail) -> bool:
        """A shot that had something to see has nothing any more."""
        return self._has_picture and float(current[0].std()) < FLAT_LEVELS


def _centred(thumbnail: _Thumbnail) -> npt.NDArray[np.float32]:
    grey = thumbnail[0].ravel()
    return np.asarray(grey - grey.mean(), np.float32)


def _mixed_frames(shot: deque[npt.NDArray[np.float32]]) -> int:
    """Frames before the last that are mixtures of it and an earlier one; 0 where it is no dissolve.

    Args:
        shot: thumbnails of a shot less their means, flat, the newest last.
    """
    after, size = shot[-1], len(shot[-1])
    if float(after @ after) < size * PICTURE_LEVELS**2:
        return 0
    found = 0
    for span in SPANS:
        if len(shot) <= span:
            break
        before = shot[-1 - span]
        energy = float(before @ before)
        if energy < size * PICTURE_LEVELS**2:
            continue
        score = 1.0 - float(before @ after) / np.sqrt(energy * float(after @ after))
        if score >= MIXED_SCORE:
            between = np.stack([shot[n] for n in range(-span, -1)])
            found = _frames_of_mixture(before, between, after, score=score) or found
    return found


def _frames_of_mixture(
    before: npt.NDArray[np.float32],
    between: npt.NDArray[np.float32],
    after: npt.NDArray[np.float32],
    *,
    score: float,
) -> int:
    change = after - before
    energy = float(change @ change)
    shares = (between - before) @ change / energy
    rest = between - before - shares[:, None] * change
    allowed = min(MOST_REST, MIXED_REST + MIXED_REST_RISE * (score - MIXED_SCORE))
    if np.square(rest).sum(axis=1).max() > allowed * energy:
        return 0
    clear = (shares > CLEAR_SHARES[0]) & (shares < CLEAR_SHARES[1])
    steps = np.diff(shares, prepend=0.0, append=1.0)
    if clear.sum() < MIN_CLEAR or steps.min() < -SHARE_FALL:
        return 0
    return len(shares) - int((shares > SHOWN_SHARE).argmax())


def _thumbnail(image: Image) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Blurred grey ``[48, 48]`` in 0..255, and which of its pixels are not clipped."""
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    if image.dtype == np.uint16:
        small /= 257.0
    grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
    return np.asarray(grey, np.float32), small.max(axis=2) < CLIPPED_LEVEL


def _difference(
    a: tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]],
    b: tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]],
) -> float:
    """0 for the same structure, about 1 for unrelated pictures, up to 2."""
    spreads = sorted(float(grey.std()) for grey, _ in (a, b))
    if spreads[0] < FLAT_LEVELS and spreads[1] > PICTURE_LEVELS:
        return 1.0
    usable = a[1] & b[1]
    if usable.mean() < MIN_USABLE:
        return 0.0
    x, y = a[0][usable], b[0][usable]
    x, y = x - x.mean(), y - y.mean()
    covariance = float((x * y).mean())
    spread = float(np.sqrt((x * x).mean() * (y * y).mean()))
    return 1.0 - (covariance + NOISE_VARIANCE) / (spread + NOISE_VARIANCE)
