"""The report as one HTML page that needs nothing but itself: no network, no other file.

Sections come in the order in which a person asks: is it good, where is it bad, how does it go over
time, and how was that measured. Every name from outside is escaped; every figure is a ``<data>``
element that carries the value of the JSON beside it.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from vidinv.report.markup import document, failed, section, table, value
from vidinv.report.model import SMILE_UNIT, FrameRow, Report
from vidinv.report.over_time import measured_attributes, over_time, panel_data, runs, spread
from vidinv.report.ranking import STANDS_OUT
from vidinv.report.script import SCRIPT
from vidinv.report.thumbnails import MAX_WORST, Thumbnail
from vidinv.version import __version__

REASONS = {
    "identity": "looks like someone else",
    "flicker": "the face flickers",
    "border": "the mask's border flickers",
}
_GENERATED = " The inversion's identity is that of the generator's own picture."


def render(report: Report, *, thumbnails: Sequence[Thumbnail] = (), name: str = "report") -> str:
    """The page. ``name`` is that of the JSON and CSV beside it, without extension."""
    body = [
        _header(report),
        _verdict(report),
        _figures(report),
        _worst(report, thumbnails),
        over_time(report),
        spread(report),
        _attributes(report),
        _tracks(report),
        _regular(report, thumbnails),
        _method(report, name),
    ]
    title = f"{Path(report.output.path).name} · identity report"
    return document(title, "".join(body), script=SCRIPT, data=panel_data(report))


def _header(report: Report) -> str:
    source, output = report.source, report.output
    facts = [
        f"{source.frames} frames",
        f"{source.seconds:.1f} s",
        f"{source.width} × {source.height}",
        f"pack {html.escape(report.pack)}",
        *(f"{html.escape(str(k))} {html.escape(_setting(v))}" for k, v in report.edit.items()),
    ]
    items = "".join(f"<li>{fact}</li>" for fact in facts)
    return (
        '<header><p class="eyebrow">Identity-consistency report</p>'
        f'<h1 title="{html.escape(output.path)}">{html.escape(Path(output.path).name)}</h1>'
        f'<p class="against">against its source <b title="{html.escape(source.path)}">'
        f'{html.escape(Path(source.path).name)}</b></p><ul class="facts">{items}</ul></header>'
    )


def _setting(setting: object) -> str:
    if isinstance(setting, dict):
        return ", ".join(f"{key} {_setting(item)}" for key, item in setting.items())
    return f"{setting:g}" if isinstance(setting, float) else str(setting)


def _verdict(report: Report) -> str:
    headline = report.headline()
    lead = f"{headline[0].upper()}{headline[1:]}."
    many = len(report.tracks) > 1
    chips = "".join(_run_chip(*run, many=many) for run in runs(report))
    css = "good" if report.is_good else "bad"
    return (
        f'<section class="verdict {css}"><p class="lead">{lead}</p>'
        f'<p>{_identity_words(report)}</p><div class="chips">{chips}</div></section>'
    )


def _run_chip(first: int, last: int, track: int, reason: str, *, many: bool) -> str:
    span = f"{first}" if first == last else f"{first}–{last}"
    where = f" · track {track}" if many else ""
    label = "frame" if first == last else "frames"
    return (
        f'<button class="chip {reason}" data-frame="{first}" data-track="{track}">'
        f"<b>{label} {span}</b>{where} {REASONS[reason]}</button>"
    )


def _identity_words(report: Report) -> str:
    """What the median distance means, in a sentence."""
    median, baseline = report.summary.distance_median, report.recognition.baseline
    if median is None:
        return ""
    said = f"Median distance of the face to its source: {value(median, 2)}"
    if baseline is None:
        return f"{said} ({_network(report)}, for which no baseline is known)."
    same, strangers = baseline["same_person_median"], baseline["strangers_p5"]
    return (
        f"{said}. With {_network(report)} one person, neutral and smiling, is typically at "
        f"{same:g}; the most similar 5 % of strangers begin at {strangers:g}"
        f"{_beyond_words(report)}."
    )


def _beyond_words(report: Report) -> str:
    """The summary counts sampled frames; here the additional ones are counted as well."""
    level = report.recognition.level("strangers_p5")
    additional = [row.distance for row in report.rows if row.additional]
    count = report.summary.like_strangers or 0
    count += sum(at is not None and level is not None and at >= level for at in additional)
    if not count:
        return f", which no {'' if report.recognition.every == 1 else 'embedded '}frame reaches"
    return f", which {count} of the embedded frames {'reaches' if count == 1 else 'reach'}"


def _network(report: Report) -> str:
    return f"<code>{html.escape(report.recognition.network)}</code>"


def _figures(report: Report) -> str:
    if not report.rows:
        return ""
    s = report.summary
    inversion = f" · inversion {value(s.ic_inversion)}" if report.has_inversion else ""
    cards = [
        _card(
            "Identity distance",
            value(s.distance_median, 2),
            f"median · 95th percentile {value(s.distance_p95, 2)}{_baseline_words(report)}",
        ),
        _card(
            "Similarity to the source",
            value(s.similarity_median),
            f"median cosine · lowest {value(s.similarity_min)}{_cosine_words(report)}",
        ),
        _card(
            "Identity consistency IC",
            value(s.ic_output),
            f"output · source {value(s.ic_source)}{inversion}{_steady_words(report)}",
        ),
        _card(
            "TL-ID",
            value(s.tl_id),
            "steady from frame to frame; 1 is as the source<br>over "
            f"{_count(report.recognition.pairs, 'pair')} of neighbouring frames",
        ),
        _card("TG-ID", value(s.tg_id), "steady over the clip; 1 is as the source"),
        _card(
            "Flicker in the face",
            value(s.flicker_output, 2),
            f"levels · source {value(s.flicker_source, 2)}",
        ),
        _card(
            "Flicker at the border",
            value(s.border_output, 2),
            f"levels · source {value(s.border_source, 2)}",
        ),
        _card(
            "Frames without an edited face" if report.edited_only else "Frames without a face",
            str(report.frames_without_face),
            f"{_count(len(report.tracks), 'track')} · {_count(len(report.cuts), 'cut')}",
        ),
        *_inversion_cards(report),
    ]
    return f'<section class="figures" aria-label="figures">{"".join(cards)}</section>'


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _inversion_cards(report: Report) -> list[str]:
    s = report.summary
    if not report.has_inversion:
        return []
    quality = f"SSIM {value(s.ssim_inversion)} · LPIPS {value(s.lpips_inversion)}"
    similarity = f"similarity {value(s.similarity_inversion_median)}"
    return [
        _card("Inversion alone", f"{value(s.psnr_inversion, 1)} dB", f"{quality} · {similarity}")
    ]


def _card(title: str, figure: str, words: str) -> str:
    return f'<div class="card"><h3>{title}</h3><p class="figure">{figure}</p><p>{words}</p></div>'


def _baseline_words(report: Report) -> str:
    baseline = report.recognition.baseline
    if baseline is None:
        return ""
    return (
        f"<br>same person {baseline['same_person_median']:g} · "
        f"strangers from {baseline['strangers_p5']:g}"
    )


def _baseline_sources(report: Report) -> list[str]:
    if report.recognition.level("same_person_ic") is None:
        return []
    return [
        "Baselines of cosines, measured with the default pack's mean embedding. Strangers: 95th "
        "percentile over all pairs of 300 photographs (median -0.01); those who look alike reach "
        "0.55 and more. Same person: median over ten people's clips of their least against their "
        "most smiling frame. IC: median of these clips as they are. TL-ID and TG-ID are ratios to "
        "the source and have none.",
    ]


def _cosine_words(report: Report) -> str:
    same, strangers = map(report.recognition.level, ("same_person_cosine", "strangers_p95_cosine"))
    if same is None or strangers is None:
        return ""
    return f"<br>same person {same:g} · strangers to {strangers:g}"


def _steady_words(report: Report) -> str:
    level = report.recognition.level("same_person_ic")
    return "" if level is None else f"<br>one person, not edited {level:g}"


def _worst(report: Report, thumbnails: Sequence[Thumbnail]) -> str:
    order = {(f.frame, f.track): n for n, f in enumerate(report.standing_out)}
    shown = sorted(
        (t for t in thumbnails if (t.frame, t.track) in order),
        key=lambda t: order[t.frame, t.track],
    )[:MAX_WORST]
    if not shown:
        return ""
    cards = "".join(_pair(report, t, rank=order[t.frame, t.track] + 1) for t in shown)
    note = f"Worst first; {_order(shown)}. The outlier score is a robust z-score within the track."
    if len(report.standing_out) > len(shown):
        note += f" {len(report.standing_out)} stand out, the first {len(shown)} are shown."
    return section("Look here first", f'<div class="{_pairs_css(shown)}">{cards}</div>', note=note)


def _regular(report: Report, thumbnails: Sequence[Thumbnail]) -> str:
    bad = {(f.frame, f.track) for f in report.standing_out}
    shown = sorted(
        (t for t in thumbnails if (t.frame, t.track) not in bad), key=lambda t: (t.frame, t.track)
    )
    if not shown:
        return ""
    cards = "".join(_pair(report, t) for t in shown)
    note = f"Ordinary frames from all along the clip: {_order(shown)}."
    return section(
        "Along the clip", f'<div class="{_pairs_css(shown)} small">{cards}</div>', note=note
    )


def _order(shown: Sequence[Thumbnail]) -> str:
    """What the pictures of a card are, from left to right."""
    return ", ".join(max(shown, key=lambda thumbnail: len(thumbnail.pictures)).pictures)


def _pairs_css(shown: Sequence[Thumbnail]) -> str:
    """Three pictures beside each other need a wider card."""
    return "pairs three" if any(len(t.pictures) > 2 for t in shown) else "pairs"


def _pair(report: Report, thumbnail: Thumbnail, rank: int | None = None) -> str:
    row = _row_at(report, thumbnail.frame, thumbnail.track)
    pictures = "".join(
        f'<img src="{uri}" alt="{html.escape(name)}" width="176" height="176" loading="lazy">'
        for name, uri in thumbnail.pictures.items()
    )
    place = f"<b>frame {thumbnail.frame}</b> {thumbnail.seconds:.2f} s"
    if len(report.tracks) > 1:
        place += f" · track {thumbnail.track}"
    tags = "".join(f'<span class="tag {reason}">{reason}</span>' for reason in row.reasons)
    score = (
        f'<span class="score">outlier score {value(row.outlier_score, 1)}</span>' if rank else ""
    )
    figure = f"distance {value(row.distance, 2)}"
    return (
        f'<button class="pair" data-frame="{thumbnail.frame}" data-track="{thumbnail.track}">'
        f'<span class="images">{pictures}</span><span class="place">{place}</span>'
        f'<span class="why">{tags}{score}<span class="score">{figure}</span></span></button>'
    )


def _row_at(report: Report, frame: int, track: int) -> FrameRow:
    return next(row for row in report.rows if (row.frame, row.track) == (frame, track))


def _attributes(report: Report) -> str:
    medians = report.summary.attributes
    rows = [
        (html.escape(words), value(a), value(b), value(_minus(b, a), sign=True))
        for name, words in measured_attributes(report).items()
        for a, b in [medians.get(name, (None, None))]
    ]
    if not rows:
        return ""
    note = (
        f"Medians of what 68 landmarks show. Smile: {SMILE_UNIT}. All others in eye distances "
        "(head tilt: in heights of the eyes over the mouth)."
    )
    return section("Attributes", table(("", "source", "output", "change"), rows), note=note)


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _tracks(report: Report) -> str:
    if not report.tracks:
        return ""
    inverted = report.has_inversion
    rows = [
        (
            str(t.id),
            str(t.person),
            f"{t.first}–{t.last}",
            str(t.frames),
            str(t.filled_in),
            str(t.shot),
            "changed" if t.changed else "as the source",
            value(t.outlier_score, 1),
            failed(value(t.summary.distance_median, 2), t.id in report.lost_tracks),
            value(t.summary.ic_source),
            *([value(t.summary.ic_inversion)] if inverted else []),
            value(t.summary.ic_output),
            value(t.summary.tl_id),
            value(t.summary.tg_id),
        )
        for t in report.tracks
    ]
    head = (
        *("track", "person", "frames", "number", "filled in", "shot", "face", "outlier score"),
        "distance",
        *("IC source", *(("IC inversion",) if inverted else ()), "IC output", "TL-ID", "TG-ID"),
    )
    cuts = ", ".join(map(str, report.cuts)) or "none"
    edited = report.edited_only
    without = f"{report.frames_without_face} frames without {'one' if edited else 'a face'}"
    note = f"{without}. Cuts at frames: {cuts}. Person: the number that --face and --attr take."
    return section(
        "Faces edited" if edited else "Faces found", table(head, rows, css="tracks"), note=note
    )


def _method(report: Report, name: str) -> str:
    known = report.recognition
    centred = (
        "after subtracting the pack's mean embedding"
        if known.mean_centred
        else "without a mean embedding, which the pack lacks: with dlib's net raw cosines of "
        "strangers are high, too (median 0.84), so read the distance"
    )
    embedded = (
        "every frame"
        if known.every == 1
        else f"one frame in {known.every}, {known.neighbours} more for TL-ID, "
        f"and {known.refined} more beside suspicious ones"
    )
    words = [
        f"Recognition network: {_network(report)}. Cosines are taken {centred}. Embedded: "
        f"{embedded}, {known.embedded} in all.",
        "IC: mean similarity to the first frame of the face's own track (Yao et al., Feature-Style "
        "encoder, eq. 9)."
        f"{_GENERATED if report.has_inversion else ''} "
        "TL-ID and TG-ID: similarity of neighbouring and of all pairs of frames relative to the "
        "source (Tzaban et al., Stitch it in Time). TL-ID is over "
        f"{_count(known.pairs, 'pair')} of neighbouring frames. Identity figures leave out the "
        "frames that were embedded in addition.",
        "Flicker: mean absolute difference to the frame before, warped along the source's optical "
        "flow. Sudden change: how far output minus source departs from its running median over "
        "25 frames, in the aligned face.",
        "Departure: distance of the output's embedding to the track's median embedding, less the "
        "same of the source.",
        "A frame stands out where its robust z-score (deviation above the track's median in "
        "1.4826 MAD) of distance, departure or sudden change (in the face or at the border) is "
        f"at least {STANDS_OUT['identity']:g} for the first two, {STANDS_OUT['flicker']:g} for the "
        "last. Distance and departure count by their z-score over the track or by that of their "
        "deviation from the running median over 25 frames, whichever is larger. A face at the "
        "strangers' distance stands out by itself where its track's median is nearer. Frames that "
        "stand out by identity do not count as usual for the sudden changes of their neighbours.",
        *_baseline_sources(report),
        *(html.escape(note) + "." for note in report.notes),
    ]
    files = f"{html.escape(name)}.json and {html.escape(name)}.csv hold every figure."
    text = "".join(f"<p>{word}</p>" for word in words)
    foot = f"<footer>{files} vidinv {html.escape(__version__)}.</footer>"
    return section("How this was measured", f'<div class="prose">{text}</div>') + foot
