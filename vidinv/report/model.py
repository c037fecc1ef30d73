"""What a report says, as plain data: one row a frame and track, and figures over the clip.

The JSON beside the page is ``Report.as_dict``; its layout is versioned by ``SCHEMA_VERSION``. A
figure that could not be measured is None everywhere, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vidinv.files import printable_values

SCHEMA = "vidinv-report"
SCHEMA_VERSION = 2

# What figures of the bundled dlib net mean. Distances: docs/REFERENCES.md, "Identity figures".
# Cosines after subtracting the default pack's mean embedding: measured as docs/REPORT.md, "What the
# baselines are of", says.
DLIB_BASELINE = {
    "same_person_median": 0.25,
    "strangers_p5": 0.68,
    "same_person_cosine": 0.87,
    "strangers_p95_cosine": 0.35,
    "same_person_ic": 0.92,
}
_OF_CENTRED_COSINES = ("same_person_cosine", "strangers_p95_cosine", "same_person_ic")

ATTRIBUTES = {
    "smile": "smile",
    "mouth_corners": "lift of the mouth's corners",
    "mouth_width": "width of the mouth",
    "mouth_open": "mouth open",
    "eyes_open": "eyes open",
    "yaw": "head turn, nose to the right",
    "pitch": "head tilt, nose up",
}
# What 0 and 1 mean; the others are in eye distances, head tilt in eyes' heights over the mouth.
SMILE_UNIT = "0: average of the training faces, a slight smile; 1: a standard deviation more"

# Neighbouring frames of a face that TL-ID is over where not every frame is sampled.
MAX_PAIRS = 8


def baseline_of(network: str) -> Mapping[str, float] | None:
    """What a network's distances mean; None for one that was not calibrated."""
    return DLIB_BASELINE if network.startswith("dlib") else None


def strangers_from(network: str) -> float | None:
    """Distance at which strangers begin: their 5th percentile."""
    baseline = baseline_of(network)
    return None if baseline is None else baseline["strangers_p5"]


@dataclass
class FrameRow:
    """One face in one frame. Levels are of 0..255; distances are of the recognition network.

    Attributes:
        seen: False where the track was filled in between sightings.
        face_px: side of the aligned crop in frame pixels.
        change, change_beside: mean absolute difference of output and source inside the face, and
            well beside it, levels.
        distance, similarity: output against source: Euclidean, and mean-centred cosine.
        departure: distance of the output's embedding to the median embedding of its track, less
            the same of the source: how much of a stranger to itself the output is here.
        first_source, first_output, first_inversion: similarity to the first embedded frame of the
            same track and clip: what IC averages.
        distance_inversion, similarity_inversion: inversion against source; it is recognised in the
            generator's own picture, as first_inversion is.
        psnr_inversion, ssim_inversion, lpips_inversion: of the aligned crop at the pack's size.
        flicker_source, flicker_output: flow-warped difference to the frame before, inside the face.
        border_source, border_output: the same where the mask fades out.
        pop_face, pop_border: how far output - source departs from its running median, levels.
        additional: embedded beside the sampled frames, being next to a suspicious one, or to one
            of them for TL-ID; figures over frames leave its identity out.
        source_attributes, output_attributes: keys of ``ATTRIBUTES``; no smile where the pack
            cannot measure it.
        outlier_score: the largest of the robust z-scores; 0 and below is ordinary.
        reasons: why the frame stands out, the foremost first; empty where it does not.
    """

    frame: int
    seconds: float
    track: int
    shot: int
    seen: bool
    face_px: float
    change: float | None = None
    change_beside: float | None = None
    distance: float | None = None
    similarity: float | None = None
    departure: float | None = None
    first_source: float | None = None
    first_output: float | None = None
    first_inversion: float | None = None
    distance_inversion: float | None = None
    similarity_inversion: float | None = None
    psnr_inversion: float | None = None
    ssim_inversion: float | None = None
    lpips_inversion: float | None = None
    flicker_source: float | None = None
    flicker_output: float | None = None
    border_source: float | None = None
    border_output: float | None = None
    pop_face: float | None = None
    pop_border: float | None = None
    additional: bool = False
    source_attributes: dict[str, float] = field(default_factory=dict)
    output_attributes: dict[str, float] = field(default_factory=dict)
    outlier_score: float = 0.0
    reasons: tuple[str, ...] = ()

    def flat(self) -> dict[str, Any]:
        """One level of names to plain values, as the CSV has them."""
        nested = ("source_attributes", "output_attributes")
        row = {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.name not in nested}
        for clip, values in (
            ("source", self.source_attributes),
            ("output", self.output_attributes),
        ):
            row |= {f"{clip}_{name}": plain(values.get(name)) for name in ATTRIBUTES}
        return row


@dataclass(frozen=True)
class ClipFacts:
    """A file that was compared."""

    path: str
    frames: int
    width: int
    height: int
    seconds: float


@dataclass(frozen=True)
class Recognition:
    """Which network told identities apart, how, and what its distances mean.

    Attributes:
        network: the embedder's name.
        mean_centred: cosines are taken after subtracting the pack's mean embedding.
        every: every n-th frame of a track was sampled, and of a shorter one the first and last.
        embedded: rows with an embedding.
        refined: of them, embedded for being next to a suspicious one.
        baseline: ``DLIB_BASELINE``: distances and centred cosines of the same person (neutral
            against smiling) and of strangers, and the IC of unedited clips; None for a network that
            was not calibrated.
        neighbours: of the embedded ones, those that are there as a neighbour for TL-ID.
        pairs: neighbouring frames that TL-ID is over.
    """

    network: str
    mean_centred: bool
    every: int
    embedded: int
    refined: int
    baseline: Mapping[str, float] | None
    neighbours: int = 0
    pairs: int = 0

    @property
    def sampled(self) -> int:
        """Every n-th row, which figures over frames are of."""
        return self.embedded - self.refined - self.neighbours

    def level(self, name: str) -> float | None:
        """A figure of the baseline; None where it says nothing, as of cosines without a mean."""
        if self.baseline is None or (name in _OF_CENTRED_COSINES and not self.mean_centred):
            return None
        return self.baseline.get(name)


@dataclass(frozen=True)
class Summary:
    """Figures over the changed tracks; means are over tracks, medians over frames.

    Identity is that of the sampled frames: the additional ones are there for being suspicious.

    Attributes:
        ic_source, ic_output, ic_inversion: identity consistency (Feature-Style, eq. 9) with the
            first frame of the same track.
        tl_id, tg_id: steadiness of identity relative to the source (STIT), 1 is as steady;
            ``tl_id`` is over neighbouring frames.
        distance_median, distance_p95, similarity_median, similarity_min: output against source.
        like_strangers: sampled frames at the strangers' 5th percentile of distance or beyond.
        flicker_source, flicker_output, border_source, border_output: means over frames, levels.
        attributes: name -> (median in source, median in output).
        psnr_inversion, ssim_inversion, lpips_inversion: means over frames.
    """

    ic_source: float | None = None
    ic_output: float | None = None
    ic_inversion: float | None = None
    tl_id: float | None = None
    tg_id: float | None = None
    distance_median: float | None = None
    distance_p95: float | None = None
    similarity_median: float | None = None
    similarity_min: float | None = None
    like_strangers: int | None = None
    flicker_source: float | None = None
    flicker_output: float | None = None
    border_source: float | None = None
    border_output: float | None = None
    attributes: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    similarity_inversion_median: float | None = None
    psnr_inversion: float | None = None
    ssim_inversion: float | None = None
    lpips_inversion: float | None = None


@dataclass(frozen=True)
class TrackFacts:
    """One face track of the source.

    Attributes:
        changed: its face differs in the output.
        outlier_score: of its worst frame.
        summary: figures over its frames; identity is measured on changed tracks only.
        person: number that ``--face`` counts; one person may have several tracks.
    """

    id: int
    shot: int
    first: int
    last: int
    frames: int
    filled_in: int
    changed: bool
    outlier_score: float = 0.0
    summary: Summary = field(default_factory=Summary)
    person: int = 0


@dataclass(frozen=True)
class Finding:
    """A frame that stands out."""

    frame: int
    seconds: float
    track: int
    outlier_score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Everything that the page, the JSON and the CSV show.

    Attributes:
        edited_only: the faces are those that the run edited; others were not measured.
    """

    source: ClipFacts
    output: ClipFacts
    pack: str
    edit: Mapping[str, Any]
    recognition: Recognition
    shots: tuple[tuple[int, int], ...]
    frames_without_face: int
    tracks: tuple[TrackFacts, ...]
    summary: Summary
    standing_out: tuple[Finding, ...]
    rows: tuple[FrameRow, ...]
    has_inversion: bool = False
    edited_only: bool = False
    notes: tuple[str, ...] = ()

    @property
    def cuts(self) -> tuple[int, ...]:
        """First frame of every shot but the first."""
        return tuple(first for first, _ in self.shots[1:])

    @property
    def is_good(self) -> bool:
        """No frame stands out, and no sampled face is as far from the source as a stranger's."""
        return bool(self.rows) and not self.standing_out and not self.summary.like_strangers

    @property
    def lost_tracks(self) -> tuple[int, ...]:
        """Tracks at a stranger's distance in the median, where nothing need stand out."""
        level = self.recognition.level("strangers_p5")
        if level is None:
            return ()
        medians = {track.id: track.summary.distance_median for track in self.tracks}
        return tuple(
            number for number, median in medians.items() if median is not None and median >= level
        )

    def headline(self) -> str:
        """One sentence: whether identity is lost, and how many frames stand out."""
        if not self.rows:
            return f"no face was {'edited' if self.edited_only else 'found'} in the source"
        frames = len({item.frame for item in self.standing_out})
        standing = f"{frames} of {self.source.frames} frames stand{'s' if frames == 1 else ''} out"
        if not frames:
            standing = "no frame stands out from the others"
        if self.lost_tracks:
            return f"identity is lost{self._where_lost()}: {self._like_strangers()}; {standing}"
        if self.summary.like_strangers and not frames:
            return f"{standing}, but {self._like_strangers()}"
        return standing

    def _where_lost(self) -> str:
        if len(self.tracks) == 1:
            return ""
        several = "s" if len(self.lost_tracks) > 1 else ""
        return f" in track{several} {', '.join(map(str, self.lost_tracks))}"

    def _like_strangers(self) -> str:
        count = self.summary.like_strangers
        sampled = f"{count} of {self.recognition.sampled} sampled faces"
        return f"{sampled} {'is' if count == 1 else 'are'} as far from the source as strangers"

    def as_dict(self) -> dict[str, Any]:
        """Plain types only, NaN-free, ready for ``json.dumps``."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rows"}
        plain_values = {key: plain(_as_plain_object(value)) for key, value in values.items()}
        head = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION}
        return {**head, **plain_values, "rows": [row.flat() for row in self.rows]}


def _as_plain_object(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    if isinstance(value, tuple):
        return [_as_plain_object(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """``value`` in JSON's types: floats rounded to 5 places, None for what is not finite.

    Texts are ``printable``: JSON of lone surrogates is refused by strict readers.
    """
    return printable_values(value, other=_rounded)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(float(value), 5) if math.isfinite(value) else None
    return value
