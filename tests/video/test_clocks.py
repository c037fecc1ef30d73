"""Outputs start where a player starts the source, sound and picture as far apart as there."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate, islice
from pathlib import Path

import av
import pytest

from tests.video.clips import make_clip, packets_of, pattern
from vidinv.types import Frame
from vidinv.video import (
    EncodeOptions,
    VideoInfo,
    copy_media,
    join_segments,
    open_reader,
    open_writer,
    probe,
)
from vidinv.video.writer import segment_path

TICK = Fraction(1, 1000)


def starts(path: Path) -> tuple[Fraction, Fraction]:
    """When picture and sound start that a player shows, seconds."""
    with av.open(str(path)) as container, av.open(str(path)) as again:
        picture = next(container.decode(video=0))
        sound = next(again.decode(audio=0))
        return picture.pts * picture.time_base, sound.pts * sound.time_base


def encoded(source: Path, output: Path, *, limit: int | None = 3) -> None:
    with open_reader(source) as reader, open_writer(output, source=reader.info) as writer:
        for frame in islice(reader, limit):
            writer.write(frame)


def joined(source: Path, output: Path, *, limit: int | None = 3) -> None:
    part, options = segment_path(
        output.with_suffix(""), output=output, options=EncodeOptions(threads=1)
    )
    info, times = probe(source), []
    with (
        open_reader(source) as reader,
        open_writer(part, source=info, options=options, segment=True) as writer,
    ):
        for frame in islice(reader, limit):
            writer.write(frame)
            times.append((frame.pts, frame.duration))
    join_segments([part], output, source=info, times=times)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("how", [encoded, joined, copy_media])
def test_a_broadcast_starts_at_zero(shared_dir, tmp_path, how, suffix):
    source = shared_dir / "inputs" / "02_ts_clock_27000s.ts"
    how(source, tmp_path / f"a{suffix}")
    before, after = starts(source), starts(tmp_path / f"a{suffix}")
    assert min(after) == 0
    assert abs((after[0] - after[1]) - (before[0] - before[1])) <= TICK / 2


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("how", [encoded, copy_media])
def test_trimmed_sound_does_not_come_back(shared_dir, tmp_path, how, suffix):
    source = shared_dir / "inputs" / "14_trimmed_edit_list_to_mkv.mp4"
    warnings = how(source, tmp_path / f"a{suffix}") or ()
    picture, sound = starts(tmp_path / f"a{suffix}")
    if warnings:  # the pictures before the cut are needed
        assert "frames before the trimmed start are shown" in warnings[0]
        assert 0.7 < sound - picture < 0.8
    else:
        assert abs(sound - picture) < Fraction(1024, 44100)
    assert bool(warnings) == (how is copy_media and suffix == ".mkv")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_what_plays_before_zero_is_kept(shared_dir, tmp_path, suffix):
    source = shared_dir / "inputs" / "24_negative_times.mkv"
    encoded(source, tmp_path / f"a{suffix}")
    picture, sound = starts(tmp_path / f"a{suffix}")
    assert sound == 0
    assert picture == Fraction(23, 1000)  # made up: 40 ms a frame, counted back
    assert len(packets_of(tmp_path / f"a{suffix}")) == len(packets_of(source))


def test_a_late_start_stays_late(tmp_path):
    source = make_clip(tmp_path / "a.mp4", num_frames=3, time_base=TICK, pts=[700, 740, 780])
    copy_media(source, tmp_path / "b.mkv")
    assert packets_of(tmp_path / "b.mkv", "video")[0][0] == Fraction(7, 10)


def test_a_clip_from_scratch_has_its_own_clock(tmp_path):
    info = VideoInfo.from_scratch(width=64, height=64, rate=25)
    with open_writer(tmp_path / "a.mp4", source=info) as writer:
        writer.write(Frame(0, 5, info.time_base, pattern(0, width=64, height=64)))
    assert packets_of(tmp_path / "a.mp4", "video")[0][0] == Fraction(1, 5)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("how", [encoded, joined])
@pytest.mark.parametrize("gaps", [(66, 15, 81, 29, 34), (50, 70, 59, 87, 29), (10, 20, 95, 90, 85)])
def test_the_track_ends_with_its_last_frame(tmp_path, suffix, how, gaps):
    """FFmpeg adds up decode times; of irregular ones, it missed the end by up to 100 ms."""
    pts = [0, *accumulate([*gaps, *gaps])]
    source = tmp_path / "a.mkv"
    make_clip(source, num_frames=11, pts=pts, time_base=Fraction(1, 1000))
    output = tmp_path / f"b{suffix}"
    how(source, output, limit=None)
    with open_reader(source) as reader:
        last = list(reader)[-1]
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == (last.pts + last.duration) * TICK
        times = [f.pts * f.time_base for f in container.decode(stream)]
        assert times == [p * TICK for p in pts]
