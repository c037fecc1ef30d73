"""Which frames a viewer should look at first: robust outliers of identity, flicker and border.

A frame's badness is its largest robust z-score, (value - median) / (1.4826 MAD), over its own
track: median and MAD do not move when some frames are bad, so a fault cannot hide itself. Identity
drifts with pose and expression, so it is also compared with its running median: another face for
ten frames stands out although the clip's spread is wide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vidinv.report.model import Finding, FrameRow

# A normal deviation is 1.4826 times the median absolute one (Rousseeuw, Croux 1993).
_MAD_TO_SIGMA = 1.4826
# Score from which a frame stands out. Identity of ordinary frames stays under 4.2 and another face
# begins at 9.9; a blink moves a sudden change up to 5.7, faults begin at 22 (docs/REPORT.md).
STANDS_OUT = {"identity": 6.0, "flicker": 8.0, "border": 8.0}
# Column -> reason and the least spread that counts, so that a still clip has no outliers by noise:
# embeddings of one face in neighbouring frames differ by 0.03; the edit of a face that holds still
# spreads by 0.2 levels, and a blink is no fault for that.
MEASURES = {
    "distance": ("identity", 0.03),
    "departure": ("identity", 0.03),
    "pop_face": ("flicker", 0.6),
    "pop_border": ("border", 0.6),
}


# Frames on either side of a running median: half a second, so that a fault of up to 12 frames in 25
# is still the exception.
REACH = 12


def rank(rows: Sequence[FrameRow]) -> tuple[Finding, ...]:
    """Fill in ``badness`` and ``reasons`` of every row; those that stand out, worst first."""
    for track in {row.track for row in rows}:
        _score([row for row in rows if row.track == track])
    worst = sorted((row for row in rows if row.reasons), key=lambda row: (-row.badness, row.frame))
    return tuple(Finding(r.frame, r.seconds, r.track, r.badness, r.reasons) for r in worst)


def _score(rows: Sequence[FrameRow]) -> None:
    scores = [(reason, outliers(rows, column)) for column, (reason, _) in MEASURES.items()]
    for number, row in enumerate(rows):
        own: dict[str, float] = {}
        for reason, z in scores:
            own[reason] = max(own.get(reason, -np.inf), float(z[number]))
        row.badness = round(max(own.values()), 2)
        row.reasons = _reasons(own)


def outliers(rows: Sequence[FrameRow], column: str) -> npt.NDArray[np.float64]:
    """``[N]`` robust z-scores of one of ``MEASURES`` over the rows of a track, in frame order."""
    reason, spread = MEASURES[column]
    values = [getattr(row, column) for row in rows]
    scores = robust_z(values, least_spread=spread)
    if reason != "identity":  # the others are differences from a running median already
        return scores
    departures = from_running_median([row.frame for row in rows], values)
    return np.maximum(scores, robust_z(departures, least_spread=spread))


def from_running_median(frames: Sequence[int], values: Sequence[float | None]) -> list[float]:
    """``[N]`` values less the median of those within ``REACH`` frames; NaN where not measured."""
    at, known = np.array(frames), _as_array(values)
    measured = ~np.isnan(known)
    return [
        value - float(np.median(known[measured & (np.abs(at - frame) <= REACH)]))
        if ok
        else float("nan")
        for frame, value, ok in zip(frames, known, measured, strict=True)
    ]


def _reasons(scores: dict[str, float]) -> tuple[str, ...]:
    """Identity first: another face changes the pixels, too. Then by score."""
    over = [reason for reason, score in scores.items() if score >= STANDS_OUT[reason]]
    return tuple(sorted(over, key=lambda reason: (reason != "identity", -scores[reason])))


def robust_z(values: Sequence[float | None], *, least_spread: float) -> npt.NDArray[np.float64]:
    """``[N]`` deviations above the median in robust standard deviations; 0 where not measured."""
    known = _as_array(values)
    if np.isnan(known).all():
        return np.zeros(len(known))
    median = np.nanmedian(known)
    spread = max(_MAD_TO_SIGMA * float(np.nanmedian(np.abs(known - median))), least_spread)
    return np.asarray(np.nan_to_num((known - median) / spread, nan=0.0))


def _as_array(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], np.float64)
