"""Parts of a clip: frames read up to a time, and streams that go with some of its frames."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from tests.video.clips import images_of, packets_of, pattern, plain_times, write_clip
from vidinv.video import Around, Cut, Until, open_reader, open_writer

FRAMES, FIRST, LAST = 50, 20, 39


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "a.mp4"
    return write_clip(path, [pattern(n) for n in range(FRAMES)], audio=True)


def frames_of(path, **how):
    with open_reader(path, **how) as reader:
        return [*reader], reader


def write_part(clip, output, *, first=FIRST, last=LAST):
    frames, reader = frames_of(clip)
    start = frames[first].pts if first else None
    cut = Cut(start, frames[last].pts + frames[last].duration)
    with open_writer(output, source=reader.info, cut=cut) as writer:
        for frame in frames[first : last + 1]:
            writer.write(frame)
    return frames, writer


def seconds_of(frames, number):
    return (frames[number].pts - frames[0].pts) * frames[0].time_base


@pytest.mark.parametrize(("seconds", "count", "read"), [(0.0, 7, 7), (0.4, 5, 15), (1.0, 999, 50)])
def test_reading_ends_with_the_frames_that_are_wanted(clip, seconds, count, read):
    whole, _ = frames_of(clip)
    part, reader = frames_of(clip, until=Until(seconds, count))
    assert [frame.pts for frame in part] == [frame.pts for frame in whole[:read]]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(part, whole, strict=False))
    assert reader.exact_times


def test_pictures_that_are_not_needed_are_black(clip):
    whole, _ = frames_of(clip)
    part, reader = frames_of(clip, around=Around(0.4, 0.8, 2))
    assert [(f.index, f.pts, f.duration) for f in part] == [
        (f.index, f.pts, f.duration) for f in whole
    ]
    shown = [f.index for f in part if f.image.any()]
    assert shown == list(range(8, 22))
    assert all(np.array_equal(part[n].image, whole[n].image) for n in shown)
    assert part[0].image.shape == whole[0].image.shape
    assert part[0].image.nbytes == whole[0].image.nbytes
    assert reader.exact_times


@pytest.mark.parametrize(("rate", "margin"), [(25, 1.6), (50, 0.8), (None, 1.6), (1000, 1.6)])
def test_a_made_up_rate_does_not_narrow_the_margin(rate, margin):
    around = Around(10.0, 12.0, 40)
    rate = None if rate is None else Fraction(rate)
    seen = [n / 100 for n in range(2000) if around.covers(n / 100, rate)]
    assert (seen[0], seen[-1]) == pytest.approx((10 - margin, 12 + margin - 0.01))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_sound_is_cut_with_the_frames(clip, tmp_path, suffix):
    output = tmp_path / f"b{suffix}"
    frames, writer = write_part(clip, output)
    start, end = seconds_of(frames, FIRST), seconds_of(frames, LAST + 1)
    tolerance = Fraction(1, 1000) if suffix == ".mkv" else 0
    times = plain_times(output)
    assert len(times) == LAST - FIRST + 1
    for time, frame in zip(times, frames[FIRST:], strict=False):
        assert abs(time - (frame.pts * frame.time_base - start)) <= tolerance
    expected = [(pts - start, data) for pts, _, data in packets_of(clip) if start <= pts < end]
    found = [(pts, data) for pts, _, data in packets_of(output)]
    assert len(expected) > 4
    assert [data for _, data in found] == [data for _, data in expected]
    assert all(abs(a - b) <= tolerance for (a, _), (b, _) in zip(found, expected, strict=True))
    assert writer.warnings == ()


def test_a_cut_from_the_beginning_keeps_it_as_it_is(clip, tmp_path):
    write_part(clip, tmp_path / "b.mp4", first=0, last=9)
    assert plain_times(tmp_path / "b.mp4") == plain_times(clip)[:10]
    kept = packets_of(tmp_path / "b.mp4")
    assert kept == packets_of(clip)[: len(kept)]
    assert 0 <= kept[-1][0] < Fraction(10, 25) <= packets_of(clip)[len(kept)][0]


def test_sound_that_is_encoded_again_is_cut_too(clip, tmp_path):
    write_part(clip, tmp_path / "b.webm")
    with av.open(str(tmp_path / "b.webm")) as container:
        sound = [f.samples / f.sample_rate for f in container.decode(audio=0)]
    assert sum(sound) == pytest.approx((LAST - FIRST + 1) / 25, abs=0.2)
    assert len(images_of(tmp_path / "b.webm")) == LAST - FIRST + 1


def test_chapters_end_with_the_cut(clip, tmp_path):
    told = tmp_path / "told.mkv"
    seconds = [(0, 0.5), (0.5, 1.0), (1.0, 1.8), (1.8, 2.0)]
    with av.open(str(clip)) as source, av.open(str(told), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        millisecond = Fraction(1, 1000)
        chapters = [
            {"id": n, "start": int(a * 1000), "end": int(b * 1000), "time_base": millisecond}
            for n, (a, b) in enumerate(seconds, 1)
        ]
        target.set_chapters([{**chapter, "metadata": {}} for chapter in chapters])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    write_part(told, tmp_path / "b.mkv")
    with av.open(str(tmp_path / "b.mkv")) as container:
        found = [
            (c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in container.chapters()
        ]
    assert [(float(a), float(b)) for a, b in found] == [(0.0, 0.2), (0.2, 0.8)]
