"""What differs between a source and what was made of it, beside the pixels.

Streams, dispositions, tags, chapters, times and bytes of packets, pixel formats and colours, side
data of the first frames: all through PyAV. Prints a table row for each pair:

    python -m tests.video.compare_media SOURCE OUTPUT [SOURCE OUTPUT ...]
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

# Written by a muxer about its own file.
MUXER_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}
NUM_FRAMES = 8
SLACK = Fraction(1, 1000)  # what containers round times to


def differences(source: Path, output: Path) -> list[str]:
    """One phrase for each thing that ``output`` has otherwise."""
    with (
        av.open(str(source), metadata_errors="replace") as a,
        av.open(str(output), metadata_errors="replace") as b,
    ):
        found = [*_changed("tag", _tags(a.metadata), _tags(b.metadata))]
        found += _changed("chapter", _chapters(a), _chapters(b))
        kinds = dict.fromkeys(stream.type for stream in (*a.streams, *b.streams))
        for kind in kinds:
            streams = ([s for s in c.streams if s.type == kind] for c in (a, b))
            for number, (one, other) in enumerate(zip_longest(*streams)):
                name = f"{kind} {number}"
                if one is None or other is None:
                    found.append(f"{name}: {'gone' if other is None else 'new'}")
                else:
                    found += _changed(name, _facts(one), _facts(other))
    for kind in ("video", "audio"):
        found += _changed(kind, _decoded(source, kind), _decoded(output, kind))
    return [*found, *_times(source, output)]


def _changed(what: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys((*before, *after)):
        one, other = before.get(key), after.get(key)
        if one != other:
            yield f"{what} {key}: {one} -> {other}"


def _tags(tags: dict[str, str]) -> dict[str, str]:
    return {k.lower(): v for k, v in tags.items() if k.lower() not in MUXER_TAGS}


def _chapters(container: Any) -> dict[str, Any]:
    return {
        str(number): (
            chapter["start"] * chapter["time_base"],
            chapter["end"] * chapter["time_base"],
            chapter["metadata"].get("title"),
        )
        for number, chapter in enumerate(container.chapters())
    }


def _facts(stream: Any) -> dict[str, Any]:
    context = stream.codec_context
    facts: dict[str, Any] = {"disposition": str(stream.disposition), **_tags(stream.metadata)}
    if context is not None:
        facts["codec"] = context.codec.canonical_name
        names = ("pix_fmt", "width", "height", "sample_rate", "channels", "sample_aspect_ratio")
        names += ("colorspace", "color_range", "color_primaries", "color_trc")
        facts |= {name: str(getattr(context, name)) for name in names if hasattr(context, name)}
    return facts


def _decoded(path: Path, kind: str) -> dict[str, Any]:
    """Side data of the first frames."""
    with av.open(str(path)) as container:
        streams = [s for s in getattr(container.streams, kind) if s.codec_context is not None]
        kinds: dict[str, Any] = {}
        try:
            for frame in islice(container.decode(streams[:1]) if streams else (), NUM_FRAMES):
                for data in getattr(frame, "side_data", {}).keys():  # noqa: SIM118
                    kinds.setdefault(f"side data {data.type.name}", True)
        except FFmpegError:
            pass
        return kinds


def _times(source: Path, output: Path) -> Iterator[str]:
    (start_a, rows_a), (start_b, rows_b) = (_packets(path) for path in (source, output))
    if abs(start_a - start_b) > SLACK:
        yield f"starts at: {float(start_a):.3f} -> {float(start_b):.3f} s"
    for index in sorted(rows_a.keys() & rows_b.keys()):
        (first_a, count_a, digest_a), (first_b, count_b, digest_b) = rows_a[index], rows_b[index]
        name = f"{index[0]} {index[1]}"
        if abs((first_a - start_a) - (first_b - start_b)) > SLACK:
            offsets = (float(first_a - start_a), float(first_b - start_b))
            yield "{} starts after the file: {:.4f} -> {:.4f} s".format(name, *offsets)
        if count_a != count_b:
            yield f"{name} packets: {count_a} -> {count_b}"
        elif digest_a != digest_b and index != ("video", 0):
            yield f"{name}: other bytes"


def _packets(path: Path) -> tuple[Fraction, dict[tuple[str, int], tuple[Fraction, int, str]]]:
    """When the file starts, seconds; first time, number and digest of packets by kind and place."""
    rows: dict[tuple[str, int], tuple[Fraction, int, str]] = {}
    with av.open(str(path)) as container:
        places: dict[int, tuple[str, int]] = {}
        for stream in container.streams:
            count = sum(kind == stream.type for kind, _ in places.values())
            places[stream.index] = (stream.type, count)
        start = Fraction(container.start_time or 0, av.time_base)
        digests = {index: hashlib.sha256() for index in places}
        first: dict[int, Fraction] = {}
        counts = dict.fromkeys(places, 0)
        try:
            for packet in container.demux():
                index = packet.stream.index
                if packet.size and not packet.is_discard:
                    counts[index] += 1
                    digests[index].update(bytes(packet))
                    if packet.pts is not None:
                        time = packet.pts * packet.time_base
                        first[index] = min(time, first.get(index, time))
        except FFmpegError:
            pass
        for index, place in places.items():
            rows[place] = (first.get(index, start), counts[index], digests[index].hexdigest())
    return start, rows


def main(arguments: Sequence[str]) -> None:
    """Print a row of a Markdown table for each pair."""
    print("| input | output | what differs |\n|---|---|---|")
    for source, output in zip(arguments[::2], arguments[1::2], strict=True):
        try:
            text = "; ".join(differences(Path(source), Path(output))) or "nothing"
        except (FFmpegError, OSError) as error:
            text = f"cannot be compared: {error}"
        print(f"| {Path(source).name} | {Path(output).name} | {text} |")


if __name__ == "__main__":
    main(sys.argv[1:])
