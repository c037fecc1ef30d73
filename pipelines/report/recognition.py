"""Recognition for ``vidinv report``: which frames to embed, and what they say of identity.

An embedding costs about 10 ms on a CPU, two or three a frame, so long clips are sampled every n-th
frame, and a few of these are embedded together with the frame after, for TL-ID. Frames next to a
suspicious one are then embedded as well, which finds where a fault begins and ends. Figures over
the clip are those of the sampled frames: the additional ones are the worst.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipelines.report.track_meter import GENERATED, ChipStore
from vidinv.faces.protocols import Embedder, Points
from vidinv.metrics.identity import identity_consistency, similarity, tg_id, tl_id_of_pairs
from vidinv.report.model import MAX_PAIRS, FrameRow, strangers_from
from vidinv.report.ranking import MEASURES, STANDS_OUT, like_strangers, outliers
from vidinv.types import Image

# 30 s on one core: with source, output and inversion every frame of a 40 s clip of one face.
MAX_EMBEDDINGS = 3000
# Chips that are embedded: of the inversion not the pasted one, which is the source at its edges.
_CHIPS = {"source": "source", "output": "output", "inversion": GENERATED}
_MAX_PAIRWISE = 1000  # rows for TG-ID, which compares all pairs

Embeddings = npt.NDArray[np.float64]
Counted = Callable[[Sequence[FrameRow], str], Iterable[FrameRow]]


@dataclass
class Recognised:
    """Embeddings of rows.

    Attributes:
        every: every n-th row of a track is sampled (``sampled_places``).
        sampled: those rows, by track, in frame order; figures over time use them.
        pairs: neighbouring rows for TL-ID, by track: the first one is sampled.
        neighbours: rows that were embedded in addition for the pairs.
        refined: rows that were embedded in addition, being next to a suspicious one.
    """

    every: int
    clips: tuple[str, ...]
    sampled: dict[int, list[FrameRow]]
    pairs: dict[int, list[tuple[FrameRow, FrameRow]]] = field(default_factory=dict)
    neighbours: int = 0
    refined: int = 0
    embeddings: dict[tuple[int, int, str], Embeddings] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """Rows with an embedding."""
        return len({(track, frame) for track, frame, _ in self.embeddings})

    def has(self, row: FrameRow, clip: str) -> bool:
        """Whether a clip's chip of a row was embedded."""
        return (row.track, row.frame, clip) in self.embeddings

    def of(self, rows: Sequence[FrameRow], clip: str) -> Embeddings:
        """``[T, D]`` of those rows that were embedded in a clip."""
        found = [self.embeddings[r.track, r.frame, clip] for r in rows if self.has(r, clip)]
        return np.array(found, np.float64)

    def of_pairs(self, track: int, clip: str) -> Embeddings:
        """``[N, 2, D]`` of the pairs of a track."""
        return np.array([self.of(pair, clip) for pair in self.pairs[track]], np.float64)


class Recogniser:
    """Embeds rows whose chips are in the store, and fills in their figures of identity.

    Args:
        mean: ``[D]`` what cosines are centred on, or 0.
        clips: chips to embed: source, output and, where made, inversion.
        max_embeddings: of the sampled rows, all tracks together; half as many more beside
            suspicious ones, and those of the pairs.
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

    def embed(self, rows: Sequence[FrameRow], every: int | None) -> Recognised:
        """Embed every n-th row of each track (None: chosen by the number of rows), then refine."""
        if every is None:
            every = self.choose_every(len(rows))
        tracks = {row.track: [r for r in rows if r.track == row.track] for row in rows}
        sampled = {
            track: [own[n] for n in sampled_places(len(own), every)]
            for track, own in tracks.items()
        }
        at_most = None if every == 1 else self._pairs_a_track(len(tracks))
        pairs = {track: _pairs(own, every, at_most) for track, own in tracks.items()}
        known = Recognised(every, self._clips, sampled, pairs)
        self._embed(known, [row for own in sampled.values() for row in own], "identity")
        seconds = [after for own in pairs.values() for _, after in own]
        known.neighbours = self._embed_also(known, seconds, "identity, neighbours")
        self._over_time(known, tracks)
        level = strangers_from(self._embedder.name)
        nearby = [row for own in tracks.values() for row in _suspicious(own, every, level)]
        nearby = nearby[: self._max_rows // 2]
        known.refined = self._embed_also(known, nearby, "identity, closer")
        self._over_time(known, tracks)
        return known

    def choose_every(self, num_rows: int) -> int:
        """The n of every n-th row that keeps to ``max_embeddings``."""
        return max(1, math.ceil(num_rows / self._max_rows))

    def _pairs_a_track(self, num_tracks: int) -> int:
        """In a crowd fewer, so that the pairs stay a small part of the work."""
        return min(MAX_PAIRS, max(1, max(MAX_PAIRS, self._max_rows // 4) // max(1, num_tracks)))

    def _over_time(self, known: Recognised, tracks: Mapping[int, Sequence[FrameRow]]) -> None:
        for own in tracks.values():
            embedded = [row for row in own if row.distance is not None]
            if embedded:
                self._against_first(known, embedded)
                self._departures(known, embedded)

    def _embed(self, known: Recognised, rows: Sequence[FrameRow], label: str) -> None:
        keys: list[tuple[int, int, str]] = []
        found = self._embedder.embed_all(self._faces(rows, label, keys))
        known.embeddings.update(zip(keys, found.astype(np.float64), strict=True))
        for row in rows:
            self._compare(known, row)

    def _faces(
        self, rows: Sequence[FrameRow], label: str, keys: list[tuple[int, int, str]]
    ) -> Iterator[tuple[Image, Points]]:
        """Chips of the rows with their landmarks; ``keys`` gets track, frame and clip of each."""
        for row in self._counted(rows, label):
            for clip, name in ((clip, _CHIPS[clip]) for clip in self._clips):
                if self._store.has(row.track, row.frame, name):
                    keys.append((row.track, row.frame, clip))
                    chip = self._store.chip(row.track, row.frame, name)
                    yield chip, self._store.points(row.track, row.frame, name)

    def _embed_also(self, known: Recognised, rows: Sequence[FrameRow], label: str) -> int:
        """Embed rows that are not yet, beside the sampled ones; returns how many."""
        new = [row for row in rows if row.distance is None]
        for row in new:
            row.additional = True
        self._embed(known, new, label)
        return len(new)

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
        sampled = known.sampled[rows[0].track]
        for clip in ("source", "output"):
            all_TD = known.of(rows, clip)
            usual = np.median(known.of(sampled, clip), axis=0)
            away[clip] = [self._distance(one, usual) for one in all_TD]
        for row, source, output in zip(rows, away["source"], away["output"], strict=True):
            row.departure = output - source

    def _cosine(self, first: Embeddings, second: Embeddings) -> Embeddings:
        return similarity(first, second, mean=self._mean)

    def _distance(self, first: Embeddings, second: Embeddings) -> float:
        return self._embedder.distance(first, second)  # type: ignore[arg-type]

    def steadiness(self, known: Recognised) -> dict[int, dict[str, float]]:
        """Track -> IC of each clip, TL-ID and TG-ID, as far as it has frames to compare."""
        return {track: self._steadiness(known, track) for track in known.sampled}

    def _steadiness(self, known: Recognised, track: int) -> dict[str, float]:
        figures = {}
        if known.pairs[track]:
            output, source = (known.of_pairs(track, clip) for clip in ("output", "source"))
            figures["tl_id"] = tl_id_of_pairs(output, source, mean=self._mean)
        rows = known.sampled[track]
        if len(rows) < 2:
            return figures
        for clip in self._clips:
            ic = identity_consistency(known.of(rows, clip), mean=self._mean)
            figures[f"ic_{clip}"] = ic
        thin = rows[:: math.ceil(len(rows) / _MAX_PAIRWISE)]
        output, source = (known.of(thin, clip) for clip in ("output", "source"))
        return {**figures, "tg_id": tg_id(output, source, mean=self._mean)}


def sampled_places(length: int, every: int) -> list[int]:
    """Places of a track's sampled frames: every n-th from the first on, and two at least for IC."""
    places = list(range(0, length, every))
    return places if len(places) > 1 or length < 2 else [0, length - 1]


def _pairs(
    rows: Sequence[FrameRow], every: int, at_most: int | None
) -> list[tuple[FrameRow, FrameRow]]:
    """Sampled rows with the next row, where there is one, spread evenly over the track."""
    pairs = [(rows[n], rows[n + 1]) for n in range(0, len(rows) - 1, every)]
    number = len(pairs) if at_most is None else min(at_most, len(pairs))
    return [pairs[n] for n in np.linspace(0, len(pairs) - 1, number).round().astype(int)]


def _suspicious(rows: Sequence[FrameRow], every: int, strangers: float | None) -> list[FrameRow]:
    """Rows not embedded yet within ``every`` frames of what would stand out by any measure."""
    if every == 1:
        return []
    outlier = like_strangers(rows, strangers)
    for column, (reason, _) in MEASURES.items():
        outlier |= outliers(rows, column) >= STANDS_OUT[reason]
    near = np.zeros(len(rows), bool)
    for number in np.flatnonzero(outlier):
        near[max(0, number - every) : number + every + 1] = True
    return [r for r, wanted in zip(rows, near, strict=True) if wanted and r.distance is None]
