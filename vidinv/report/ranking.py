"""Which frames a viewer should see first: robust outliers of identity, flicker and border.

A frame's outlier score is its largest robust z-score, (value - median) / (1.4826 MAD), over its own
track: median and MAD do not move when some frames are bad, so a fault cannot hide itself. Identity
drifts with pose and expression, so it is also compared with its running median: another face for
ten frames stands out although the clip's spread is wide. A face at a stranger's distance stands out
whatever its score, unless the whole track is there.
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


def rank(rows: Sequence[FrameRow], *, strangers: float | None = None) -> tuple[Finding, ...]:
    """Fill in ``outlier_score`` and ``reasons`` of every row; those that stand out, worst first.

    Args:
        strangers: distance from which a face stands out by itself, and comes before the others, in
            a track whose median lies below it; None for a network without a baseline.
    """
    beyond = set()
    for track in {row.track for row in rows}:
        own = [row for row in rows if row.track == track]
        alike = like_strangers(own, strangers)
        _score(own, alike)
        beyond |= {(row.track, row.frame) for row, far in zip(own, alike, strict=True) if far}
    worst = sorted(
        (row for row in rows if row.reasons),
        key=lambda row: ((row.track, row.frame) not in beyond, -row.outlier_score, row.frame),
    )
    return tuple(Finding(r.frame, r.seconds, r.track, r.outlier_score, r.reasons) for r in worst)


def like_strangers(rows: Sequence[FrameRow], strangers: float | None) -> npt.NDArray[np.bool_]:
    """``[N]``; where the whole track is at that distance, none stands out for it."""
    distances = _as_array([row.distance for row in rows])
    usual = distances[_sampled(rows) & ~np.isnan(distances)]
    if strangers is None or not len(usual) or np.median(usual) >= strangers:
        return np.zeros(len(rows), bool)
    return np.asarray(distances >= strangers)


def _score(rows: Sequence[FrameRow], alike: npt.NDArray[np.bool_]) -> None:
    scores = [(reason, outliers(rows, column)) for column, (reason, _) in MEASURES.items()]
    scores.append(("identity", np.where(alike, STANDS_OUT["identity"], -np.inf)))
    for number, row in enumerate(rows):
        own: dict[str, float] = {}
        for reason, z in scores:
            own[reason] = max(own.get(reason, -np.inf), float(z[number]))
        row.outlier_score = round(max(own.values()), 2)
        row.reasons = _reasons(own)


def outliers(rows: Sequence[FrameRow], column: str) -> npt.NDArray[np.float64]:
    """``[N]`` robust z-scores of one of ``MEASURES`` over the rows of a track, in frame order."""
    reason, spread = MEASURES[column]
    values = [getattr(row, column) for row in rows]
    if reason != "identity":  # differences from a running median already, and of every frame
        return robust_z(values, least_spread=spread)
    usual = _sampled(rows)
    departures = from_running_median([row.frame for row in rows], values)
    return np.maximum(
        *(robust_z(one, least_spread=spread, usual=usual) for one in (values, departures))
    )


def _sampled(rows: Sequence[FrameRow]) -> npt.NDArray[np.bool_]:
    """What is usual is told by the sampled rows: those beside suspicious ones are the worst."""
    return np.array([not row.additional for row in rows], bool)


def from_running_median(frames: Sequence[int], values: Sequence[float | None]) -> list[float]:
    """``[N]`` values less the median of the frames within ``REACH``; NaN where not measured.

    Frames between measured ones count by interpolation: where suspicious ones were embedded
    more densely than others, they would outvote them.
    """
    at, known = np.array(frames), _as_array(values)
    measured = ~np.isnan(known)
    if not measured.any():
        return [float("nan")] * len(known)
    filled = np.interp(at, at[measured], known[measured])
    return [
        value - float(np.median(filled[np.abs(at - frame) <= REACH])) if ok else float("nan")
        for frame, value, ok in zip(frames, known, measured, strict=True)
    ]


def _reasons(scores: dict[str, float]) -> tuple[str, ...]:
    """Identity first: another face changes the pixels, too. Then by score."""
    over = [reason for reason, score in scores.items() if score >= STANDS_OUT[reason]]
    return tuple(sorted(over, key=lambda reason: (reason != "identity", -scores[reason])))


def robust_z(
    values: Sequence[float | None],
    *,
    least_spread: float,
    usual: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.float64]:
    """``[N]`` deviations above the median in robust standard deviations; 0 where not measured.

    Args:
        usual: ``[N]`` the values that median and spread are taken over; None: all.
    """
    known = _as_array(values)
    over = known if usual is None else known[usual]
    if np.isnan(over).all():
        return np.zeros(len(known))
    median = np.nanmedian(over)
    spread = max(_MAD_TO_SIGMA * float(np.nanmedian(np.abs(over - median))), least_spread)
    return np.asarray(np.nan_to_num((known - median) / spread, nan=0.0))


def _as_array(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], np.float64)
