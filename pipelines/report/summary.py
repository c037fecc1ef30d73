"""Figures over the frames of a report: of the whole clip, and of each track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vidinv.report.model import ATTRIBUTES, FrameRow, Summary, TrackFacts
from vidinv.types import FaceTrack

# A face counts as changed where it differs by this many levels more than its surroundings do. Set
# by judgement between re-encoding and a weak edit; not measured over many clips.
_CHANGED_LEVELS = 1.5
_MEANS = (
    *("flicker_source", "flicker_output", "border_source", "border_output"),
    *("psnr_inversion", "ssim_inversion", "lpips_inversion"),
)


def summarise(
    rows: Sequence[FrameRow], steadiness: Mapping[str, float | None], strangers: float | None
) -> Summary:
    """Figures over rows.

    Args:
        rows: identity counts of the sampled ones only; the additional ones were embedded for
            being suspicious and would bias it.
        steadiness: IC, TL-ID and TG-ID, by their names in ``Summary``.
        strangers: distance from which a frame counts as a stranger.
    """
    sampled = [row for row in rows if not row.additional]
    distances = _known(sampled, "distance")
    similarities = _known(sampled, "similarity")
    beyond = None if strangers is None else int((distances >= strangers).sum())
    return Summary(
        **steadiness,
        **{name: _mean(_known(rows, name)) for name in _MEANS},
        distance_median=_quantile(distances, 0.5),
        distance_p95=_quantile(distances, 0.95),
        similarity_median=_quantile(similarities, 0.5),
        similarity_min=_quantile(similarities, 0.0),
        like_strangers=beyond if len(distances) else None,
        similarity_inversion_median=_quantile(_known(sampled, "similarity_inversion"), 0.5),
        attributes={name: _attribute(rows, name) for name in ATTRIBUTES} if rows else {},
    )


def mean_over_tracks(
    tracks: Mapping[int, Mapping[str, float]], wanted: set[int]
) -> dict[str, float | None]:
    """Means of the tracks' figures, each track counting the same."""
    chosen = [figures for number, figures in tracks.items() if number in wanted]
    names = {name for figures in chosen for name in figures}
    return {
        name: float(np.mean([figures[name] for figures in chosen if name in figures]))
        for name in names
    }


def changed_tracks(rows: Sequence[FrameRow]) -> set[int]:
    """Tracks whose face differs from the source."""
    return {
        r.track
        for r in rows
        if r.change is not None
        and r.change_beside is not None
        and r.change - r.change_beside > _CHANGED_LEVELS
    }


def track_facts(
    track: FaceTrack,
    rows: Sequence[FrameRow],
    *,
    changed: bool,
    steadiness: Mapping[str, float],
    strangers: float | None,
) -> TrackFacts:
    """What the report says of a track; ``rows`` may hold others'. Figures: see ``summarise``."""
    own = [row for row in rows if row.track == track.id]
    return TrackFacts(
        track.id,
        track.shot,
        track.first,
        track.last,
        track.num_frames,
        int((~track.measured_T).sum()),
        changed,
        max((row.outlier_score for row in own), default=0.0),
        summarise(own, steadiness, strangers),
        track.person,
    )


def _attribute(rows: Sequence[FrameRow], name: str) -> tuple[float | None, float | None]:
    source, output = (
        [shape[name] for shape in shapes if name in shape]
        for shapes in ([r.source_attributes for r in rows], [r.output_attributes for r in rows])
    )
    return _quantile(np.array(source), 0.5), _quantile(np.array(output), 0.5)


def _known(rows: Sequence[FrameRow], column: str) -> np.ndarray:
    values = [getattr(row, column) for row in rows]
    return np.array([value for value in values if value is not None and np.isfinite(value)])


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def _quantile(values: np.ndarray, fraction: float) -> float | None:
    return float(np.quantile(values, fraction)) if len(values) else None
