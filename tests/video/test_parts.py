"""Parts of a clip: read from the middle, encoded as segments, and joined without a seam."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from tests.video.clips import make_clip, packets_of, pattern, plain_times, write_clip
from vidinv.errors import EncodeError
from vidinv.types import Frame
from vidinv.video import (
    EncodeOptions,
    Part,
    copy_media,
    join_segments,
    open_reader,
    open_writer,
    probe,
    segment_path,
)
from vidinv.video.joining import join

FRAMES = 40
REAL_CLIPS = ["grid_bbaf2n.mpg", "cuts_crowd.mp4", "sign_smallface.mkv"]
LONG_CLIP = pytest.param("greenscreen_512.mp4", marks=pytest.mark.slow)


def read(path: Path, part: Part | None = None) -> tuple[list[Frame], bool]:
    with open_reader(path, part=part) as reader:
        return list(reader), reader.exact_times


def assert_same(some: list[Frame], expected: list[Frame]) -> None:
    assert [f.index for f in some] == [f.index for f in expected]
    assert [(f.pts, f.duration) for f in some] == [(f.pts, f.duration) for f in expected]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(some, expected, strict=True))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Irregular times, B-frames, three groups of pictures, sound.

    The last frames are 40 ms apart, which is also what a container takes an unknown duration for:
    MP4's length counts the duration of the frame that is decoded last, and x264 chooses that one
    by pixels which differ from one making to the next (its macroblock tree is not deterministic
    for pictures this small).
    """
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    pts = list(accumulate([38, 38, 35] * 11 + [40] * 6, initial=1000))
    how = {"pts": pts, "time_base": Fraction(1, 1000), "audio": True}
    return make_clip(path, num_frames=FRAMES, **how)


@pytest.mark.parametrize("first", [0, 1, 13, FRAMES - 1])
@pytest.mark.parametrize("seek", [True, False])
def test_a_part_is_the_frames_of_a_whole_read(clip, first, seek):
    whole, exact = read(clip)
    assert exact
    part = Part(first, 5, whole[first].pts if seek else None)
    assert_same(read(clip, part)[0], whole[first : first + 5])


def test_a_part_past_the_end_gives_what_there_is(clip):
    assert [f.index for f in read(clip, Part(FRAMES - 2, 9))[0]] == [FRAMES - 2, FRAMES - 1]
    assert read(clip, Part(FRAMES + 3, 9))[0] == []


def test_a_time_that_no_frame_has_is_counted_from_the_start(clip):
    whole, _ = read(clip)
    assert_same(read(clip, Part(20, 3, whole[20].pts + 1))[0], whole[20:23])


@pytest.mark.parametrize("name", [*REAL_CLIPS, LONG_CLIP])
def test_parts_of_real_clips(shared_dir, name):
    path = shared_dir / "clips" / name
    whole, exact = read(path)
    assert exact
    for first in (1, len(whole) // 3, len(whole) // 2, len(whole) - 4):
        part = Part(first, 4, whole[first].pts)
        assert_same(read(path, part)[0], whole[first : first + 4])


def test_times_that_had_to_be_corrected_are_told(tmp_path):
    raw = tmp_path / "raw.h264"
    with av.open(str(raw), "w", format="h264") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(6):
            picture = av.VideoFrame.from_ndarray(pattern(number), format="rgb24")
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    whole, exact = read(raw)
    assert (len(whole), exact) == (6, False)
    assert_same(read(raw, Part(3, 2))[0], whole[3:5])


@pytest.mark.parametrize("past_frame", [None, pytest.param(11, marks=pytest.mark.slow)])
def test_a_long_skip_is_not_taken_for_a_hang(clip, past_frame):
    """12 frames of 0.4 s are skipped: counted, or from a keyframe to a time that none has."""
    whole, _ = read(clip)
    pts = None if past_frame is None else whole[past_frame].pts + 1
    beats = []
    how = {"timeout_seconds": 4.0, "worker": "tests.video.slow_worker"}
    with open_reader(
        clip, part=Part(12, 2, pts), on_alive=lambda: beats.append(1), **how
    ) as reader:
        assert_same(list(reader), whole[12:14])
    assert len(beats) >= 10  # one a picture that is skipped


def encode(frames, folder, output, source, options, cuts=()):
    """Encode in segments that end before each of ``cuts``, and join them."""
    segments = []
    for first, end in zip([0, *cuts], [*cuts, len(frames)], strict=True):
        path, how = segment_path(folder / f"{first}", output=output, options=options)
        with open_writer(path, source=source, options=how, segment=True) as writer:
            for frame in frames[first:end]:
                writer.write(frame)
        segments.append(path)
    times = [(frame.pts, frame.duration) for frame in frames]
    return join_segments(segments, output, source=source, times=times)


def video_packets(path: Path):
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.video[0])
        return [(p.pts, p.dts) for p in packets if p.size]


@pytest.mark.parametrize(
    ("suffix", "encoder"),
    [(".mp4", None), (".mkv", None), (".mov", "prores_ks"), (".mp4", "libx265"), (".mkv", "ffv1")],
)
def test_joined_segments_are_as_one_encoder_writes_them(clip, tmp_path, suffix, encoder):
    frames, _ = read(clip)
    source, options = probe(clip), EncodeOptions(encoder=encoder, threads=1)
    whole, joined = tmp_path / f"whole{suffix}", tmp_path / f"joined{suffix}"
    with open_writer(whole, source=source, options=options) as writer:
        for frame in frames:
            writer.write(frame)
    assert encode(frames, tmp_path, joined, source, options, cuts=(1, 25)) == writer.warnings
    assert plain_times(joined) == plain_times(whole)
    mine, theirs = video_packets(joined), video_packets(whole)
    # Segments reorder their own frames; decode times and the times of display are the same.
    assert sorted(pts for pts, _ in mine) == sorted(pts for pts, _ in theirs)
    # But for the last one, which is decoded as late as its own time allows: which frame that is
    # x264 chooses (see ``clip``).
    assert [dts for _, dts in mine][:-1] == [dts for _, dts in theirs][:-1]
    assert all(dts is None or dts <= pts for pts, dts in mine)
    assert packets_of(joined) == packets_of(whole) != []
    facts = [dataclasses.replace(probe(path), path=None) for path in (joined, whole)]
    assert facts[0] == facts[1]
    with av.open(str(joined)) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size]
    keyframes = sorted(p.pts for p in packets if p.is_keyframe)
    base = Fraction(source.time_base) / packets[0].time_base
    starts = [frames[n].pts for n in (0, 1, 25)]
    tolerance = 0 if suffix != ".mkv" else 1
    assert all(min(abs(k - s * base) for k in keyframes) <= tolerance for s in starts)


def test_segments_that_do_not_fit_together_are_refused(clip, tmp_path):
    frames, _ = read(clip)
    source, output = probe(clip), tmp_path / "o.mp4"
    options = EncodeOptions(threads=1)
    paths = []
    for number, pictures in enumerate((frames[:8], frames[8:16])):
        how = dataclasses.replace(options, encoder=("libx264", "libx265")[number])
        path, how = segment_path(tmp_path / f"{number}", output=output, options=how)
        with open_writer(path, source=source, options=how, segment=True) as writer:
            for frame in pictures:
                writer.write(frame)
        paths.append(path)
    times = [(frame.pts, frame.duration) for frame in frames[:16]]
    with pytest.raises(EncodeError, match="encoded with different parameters"):
        join_segments(paths, output, source=source, times=times)
    with pytest.raises(EncodeError, match="hold 8 frames of 16"):
        join_segments(paths[:1], output, source=source, times=times)
    assert not output.exists()
    assert not list(tmp_path.glob("*.part"))


def test_a_clip_with_one_frame_is_one_segment(tmp_path):
    clip = write_clip(tmp_path / "one.mp4", [pattern(0)])
    frames, _ = read(clip)
    encode(frames, tmp_path, tmp_path / "o.mp4", probe(clip), EncodeOptions())
    assert plain_times(tmp_path / "o.mp4") == plain_times(clip)


@pytest.fixture(scope="module")
def one_segment(clip, tmp_path_factory) -> Path:
    """The first two frames of the clip."""
    output = tmp_path_factory.mktemp("segment") / "o.mp4"
    path, how = segment_path(output.with_name("0"), output=output, options=EncodeOptions(threads=1))
    with open_writer(path, source=probe(clip), options=how, segment=True) as writer:
        for frame in read(clip, Part(0, 2))[0]:
            writer.write(frame)
    return path


def test_segments_are_opened_one_at_a_time(clip, one_segment, tmp_path):
    info, process, open_files = probe(clip), psutil.Process(), []
    num_before = process.num_fds()
    request = {
        "source": info.path,
        "format": "mp4",
        "info": info.to_json(),
        "segments": [str(one_segment)] * 60,
        "times": [[40 * number, 40] for number in range(120)],
        "output": str(tmp_path / "o.mp4"),
    }
    join(request, heartbeat=lambda: open_files.append(process.num_fds() - num_before))
    assert len(video_packets(tmp_path / "o.mp4")) == 120
    assert len(open_files) >= 60 + 120  # a sign of life for each segment, then each packet
    assert max(open_files) <= 4  # output, source, a segment, and one to spare


@pytest.mark.parametrize("task", ["copy", "join"])
def test_a_long_copy_is_not_taken_for_a_hang(clip, one_segment, tmp_path, task):
    sound = write_clip(tmp_path / "sound.mp4", map(pattern, range(40)), audio=True)
    output, beats = tmp_path / "o.mov", []  # a copy into MP4 would be the file itself
    how = {"worker": "tests.video.slow_encode_worker", "stall_seconds": 4.0}
    how["on_alive"] = lambda: beats.append(1)
    if task == "copy":
        assert copy_media(sound, output, **how) == ()
    else:
        join_segments([one_segment], output, source=probe(sound), times=[(0, 1), (1, 1)], **how)
    assert len(packets_of(output)) == len(packets_of(sound)) >= 12
    assert len(beats) >= 5
