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

# 40 s on one core: with source, output and inversion every frame of an 8 s clip of one face.
MAX_EMBEDDINGS = 600
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

    @property
    def num_rows(self) -> int:
        """Rows with an embedding."""
        return len({(track, frame) for track, frame, _ in self.embeddings})

    def has(self, row: FrameRow, clip: str) -> bool:
        """Whether a clip's chip of a row was looked at."""
        return (row.track, row.frame, clip) in self.embeddings

    def of(self, rows: Sequence[FrameRow], clip: str) -> Embeddings:
        """``[T, D]`` of those rows that were looked at in a clip."""
        found = [self.embeddings[r.track, r.frame, clip] for r in rows if self.has(r, clip)]
        return np.array(found, np.float64)


class Recogniser:
    """Looks at rows whose chips are in the store.

    Args:
        mean: ``[D]`` what cosines are centred on, or 0.
        clips: chips to look at: source, output and, where made, inversion.
        max_embeddings: of the even raster over all rows; half as many more to refine it.
    """

    def __init__(
        self,
        store: ChipStore,
        embedder: Embedder,
        *,
        mean: npt.NDArray[np.floating] | float,
        clips: tuple[str, ...],
        counted: Counted,
        max_embeddings: int = MAX_EMBEDDINGS,
    ) -> None:
        self._max_rows = max(1, max_embeddings // len(clips))
        self._store, self._embedder, self._mean = store, embedder, mean
        self._clips, self._counted = clips, counted

    def look(self, rows: Sequence[FrameRow], every: int | None) -> Recognised:
        """Embed every n-th row of each track (None: chosen by the number of rows), then refine."""
        if every is None:
            every = self.choose_every(len(rows))
        tracks = {row.track: [r for r in rows if r.track == row.track] for row in rows}
        evenly = {track: own[::every] for track, own in tracks.items()}
        known = Recognised(every, self._clips, evenly)
        self._embed(known, [row for own in evenly.values() for row in own], "identity")
        self._over_time(known, tracks)
        nearby = [row for own in tracks.values() for row in _suspicious(own, every)]
        nearby = nearby[: self._max_rows // 2]
        self._embed(known, nearby, "identity, closer")
        known.refined = len(nearby)
        self._over_time(known, tracks)
        return known

    def choose_every(self, num_rows: int) -> int:
        """The raster that keeps to ``max_embeddings``."""
        return max(1, math.ceil(num_rows / self._max_rows))

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
                if not self._store.has(row.track, row.frame, clip):
                    continue
                chip = self._store.chip(row.track, row.frame, clip)
                found = self._embedder.embed(chip, points).astype(np.float64)
                known.embeddings[row.track, row.frame, clip] = found
            self._compare(known, row)

    def _compare(self, known: Recognised, row: FrameRow) -> None:
        source, *others = (one[0] for clip in self._clips if len(one := known.of([row], clip)))
        figures = [(self._distance(source, o), float(self._cosine(source, o))) for o in others]
        row.distance, row.similarity = figures[0]
        if len(figures) > 1:
            row.distance_inversion, row.similarity_inversion = figures[1]

    def _against_first(self, known: Recognised, rows: Sequence[FrameRow]) -> None:
        for clip in self._clips:
            seen = [row for row in rows if known.has(row, clip)]
            if not seen:
                continue
            all_TD = known.of(seen, clip)
            for row, value in zip(seen, self._cosine(all_TD, all_TD[:1]), strict=True):
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

    def steadiness(self, known: Recognised) -> dict[int, dict[str, float]]:
        """Track -> IC of each clip, TL-ID and TG-ID; tracks with two looked-at rows."""
        return {
            track: self._steadiness(known, rows)
            for track, rows in known.evenly.items()
            if len(rows) > 1
        }

    def _steadiness(self, known: Recognised, rows: Sequence[FrameRow]) -> dict[str, float]:
        source, output = known.of(rows, "source"), known.of(rows, "output")
        thin = slice(None, None, math.ceil(len(rows) / _MAX_PAIRWISE))
        ic = {
            f"ic_{clip}": identity_consistency(known.of(rows, clip), mean=self._mean)
            for clip in self._clips
        }
        return {
            **ic,
            "tl_id": tl_id(output, source, mean=self._mean),
            "tg_id": tg_id(output[thin], source[thin], mean=self._mean),
        }


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
