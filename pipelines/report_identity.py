"""Recognition for ``vidinv report``: which frames to look at, and what they say of identity.

An embedding costs 64 ms on a CPU, two or three a frame, so long clips are looked at every n-th
frame; frames next to a suspicious one are then looked at as well, which finds where a fault
begins and ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipelines.report_faces import ChipStore
from vidinv.faces.protocols import Embedder
from vidinv.metrics.identity import identity_consistency, similarity, tg_id, tl_id
from vidinv.report.model import FrameRow
from vidinv.report.ranking import MEASURES, STANDS_OUT, outliers

# Two embeddings of each: 40 s on one core. Every frame of a 10 s clip of one face.
MAX_LOOKED_AT = 300
MAX_REFINED = 150
_MAX_PAIRWISE = 1000  # rows for TG-ID, which compares all pairs

Embeddings = npt.NDArray[np.float64]
Counted = Callable[[Sequence[FrameRow], str], Iterable[FrameRow]]


@dataclass
class Recognised:
    """Embeddings of the rows that were looked at.

    Attributes:
        every: every n-th row of a track.
        evenly: the rows of that raster, by track, in frame order; figures over time use them.
        refined: rows that were looked at in addition.
    """

    every: int
    clips: tuple[str, ...]
    evenly: dict[int, list[FrameRow]]
    refined: int = 0
    embeddings: dict[tuple[int, int, str], Embeddings] = field(default_factory=dict)

    def of(self, rows: Sequence[FrameRow], clip: str) -> Embeddings:
        """``[T, D]`` of rows that were looked at."""
        return np.stack([self.embeddings[row.track, row.frame, clip] for row in rows])


class Recogniser:
    """Looks at rows whose chips are in the store.

    Args:
        mean: ``[D]`` what cosines are centred on, or 0.
        clips: chips to look at: source, output and, if made, inversion.
    """

    def __init__(
        self,
        store: ChipStore,
        embedder: Embedder,
        *,
        mean: npt.NDArray[np.floating] | float,
        clips: tuple[str, ...],
        counted: Counted,
    ) -> None:
        self._store, self._embedder, self._mean = store, embedder, mean
        self._clips, self._counted = clips, counted

    def look(self, rows: Sequence[FrameRow], every: int | None) -> Recognised:
        """Embed every n-th row of each track (None: chosen by the number of rows), then refine."""
        if every is None:
            every = max(1, math.ceil(len(rows) / MAX_LOOKED_AT))
        tracks = {row.track: [r for r in rows if r.track == row.track] for row in rows}
        evenly = {track: own[::every] for track, own in tracks.items()}
        known = Recognised(every, self._clips, evenly)
        self._embed(known, [row for own in evenly.values() for row in own], "identity")
        self._over_time(known, tracks)
        nearby = [row for own in tracks.values() for row in _suspicious(own, every)]
        self._embed(known, nearby[:MAX_REFINED], "identity, closer")
        known.refined = len(nearby[:MAX_REFINED])
        self._over_time(known, tracks)
        return known

    def _over_time(self, known: Recognised, tracks: Mapping[int, Sequence[FrameRow]]) -> None:
        for own in tracks.values():
            looked = [row for row in own if row.distance is not None]
            if looked:
                self._against_first(known, looked)
                self._departures(known, looked)

    def _embed(self, known: Recognised, rows: Sequence[FrameRow], label: str) -> None:
        for row in self._counted(rows, label):
            points = self._store.points(row.track, row.frame)
            for clip in self._clips:
                chip = self._store.chip(row.track, row.frame, clip)
                found = self._embedder.embed(chip, points).astype(np.float64)
                known.embeddings[row.track, row.frame, clip] = found
            self._compare(known, row)

    def _compare(self, known: Recognised, row: FrameRow) -> None:
        source, *others = (known.of([row], clip)[0] for clip in self._clips)
        figures = [(self._distance(source, o), float(self._cosine(source, o))) for o in others]
        row.distance, row.similarity = figures[0]
        if len(figures) > 1:
            row.distance_inversion, row.similarity_inversion = figures[1]

    def _against_first(self, known: Recognised, rows: Sequence[FrameRow]) -> None:
        for clip in self._clips:
            all_TD = known.of(rows, clip)
            for row, value in zip(rows, self._cosine(all_TD, all_TD[0]), strict=True):
                setattr(row, f"first_{clip}", float(value))

    def _departures(self, known: Recognised, rows: Sequence[FrameRow]) -> None:
        """The median embedding does not move when fewer than half of the frames are bad."""
        away = {}
        for clip in ("source", "output"):
            all_TD = known.of(rows, clip)
            usual = np.median(all_TD, axis=0)
            away[clip] = [self._distance(one, usual) for one in all_TD]
        for row, source, output in zip(rows, away["source"], away["output"], strict=True):
            row.departure = output - source

    def _cosine(self, first: Embeddings, second: Embeddings) -> Embeddings:
        return similarity(first, second, mean=self._mean)

    def _distance(self, first: Embeddings, second: Embeddings) -> float:
        return self._embedder.distance(first, second)  # type: ignore[arg-type]

    def steadiness(self, known: Recognised) -> dict[str, float | None]:
        """IC of each clip, TL-ID and TG-ID: means over the tracks with two looked-at rows."""
        figures: dict[str, list[float]] = {}
        for rows in known.evenly.values():
            if len(rows) < 2:
                continue
            for clip in self._clips:
                ic = identity_consistency(known.of(rows, clip), mean=self._mean)
                figures.setdefault(f"ic_{clip}", []).append(ic)
            source, output = known.of(rows, "source"), known.of(rows, "output")
            figures.setdefault("tl_id", []).append(tl_id(output, source, mean=self._mean))
            thin = slice(None, None, math.ceil(len(rows) / _MAX_PAIRWISE))
            value = tg_id(output[thin], source[thin], mean=self._mean)
            figures.setdefault("tg_id", []).append(value)
        return {name: float(np.mean(values)) for name, values in figures.items()}


def _suspicious(rows: Sequence[FrameRow], every: int) -> list[FrameRow]:
    """Rows not looked at yet within ``every`` frames of an outlier of any measure."""
    if every == 1:
        return []
    outlier = np.zeros(len(rows), bool)
    for column, (reason, _) in MEASURES.items():
        outlier |= outliers(rows, column) >= STANDS_OUT[reason]
    near = np.zeros(len(rows), bool)
    for number in np.flatnonzero(outlier):
        near[max(0, number - every) : number + every + 1] = True
    return [r for r, wanted in zip(rows, near, strict=True) if wanted and r.distance is None]
