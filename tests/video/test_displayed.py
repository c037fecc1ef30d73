"""Frames that change their size in the middle, and interlaced ones, as a viewer sees them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.clips import pattern
from vidinv.video import Part, open_reader, open_writer
from vidinv.video.deinterlace import NOTE

RATE = 25


def packets(context, images, *, first: int = 0):
    for number, image in enumerate(images, first):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, RATE)
        yield from context.encode(frame)
    yield from context.encode(None)


def size_change(path: Path, *, at: int = 5) -> Path:
    """96x64 at first, then 64x96, as a call over a bad network records it."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libvpx", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        second = av.CodecContext.create("libvpx", "w")
        second.width, second.height, second.pix_fmt = 64, 96, "yuv420p"
        second.time_base = Fraction(1, RATE)
        wide = [pattern(n) for n in range(at)]
        tall = [pattern(n, width=64, height=96) for n in range(at)]
        for packet in packets(stream, wide):
            output.mux(packet)
        for packet in packets(second, tall, first=at):
            packet.stream = stream
            output.mux(packet)
    return path


def interlaced(path: Path, *, num_frames: int = 24) -> Path:
    """Top lines of each frame are from an earlier time than bottom lines."""
    options = {"x264-params": "tff=1:keyint=8:scenecut=0:bframes=2", "crf": "8"}
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for packet in packets(stream, [woven(n) for n in range(num_frames)]):
            output.mux(packet)
    return path


def woven(number: int) -> np.ndarray:
    image = pattern(6 * number)
    image[1::2] = pattern(6 * number + 3)[1::2]
    return image


def read(path: Path, part: Part | None = None):
    with open_reader(path, part=part) as reader:
        return list(reader), reader


def combing(image: np.ndarray) -> float:
    """How much lines differ from the mean of their neighbours, in levels."""
    lines = image.astype(float)
    return float(np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean())


def test_another_size_in_the_middle_is_fitted_not_stretched(tmp_path):
    frames, reader = read(size_change(tmp_path / "a.webm"))
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}
    assert reader.notes == (
        "the picture is 64x96 from frame 5 on, 96x64 before: "
        "edited frames are fitted into that, with bars",
    )
    for frame in frames[5:]:
        lit = np.flatnonzero(frame.image.max(axis=(0, 2)) > 8)
        assert (lit[0], lit[-1]) == (26, 68)
        tall = pattern(frame.index - 5, width=64, height=96)
        shrunk = av.VideoFrame.from_ndarray(tall, format="rgb24").reformat(width=43, height=64)
        shown = frame.image[:, 26:69].astype(float)
        assert np.abs(shown - shrunk.to_ndarray(format="rgb24")).mean() < 8


def test_a_part_after_the_change_is_fitted_the_same_way(tmp_path):
    path = size_change(tmp_path / "a.webm")
    whole, _ = read(path)
    part, _ = read(path, Part(6, 3, whole[6].pts))
    for one, other in zip(part, whole[6:9], strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_interlaced_frames_are_deinterlaced_at_their_times(tmp_path):
    path = interlaced(tmp_path / "a.mp4")
    with av.open(str(path)) as file:
        stored = list(file.decode(video=0))
    frames, reader = read(path)
    assert reader.notes == (NOTE,)
    assert all(frame.interlaced_frame for frame in stored)
    assert [frame.pts for frame in frames] == [frame.pts for frame in stored]
    assert [frame.duration for frame in frames] == [frame.duration for frame in stored]
    before = np.mean([combing(frame.to_ndarray(format="rgb24")) for frame in stored])
    smooth = np.mean([combing(pattern(6 * n)) for n in range(len(stored))])
    assert np.mean([combing(frame.image) for frame in frames]) < smooth + 0.1 * (before - smooth)


@pytest.mark.parametrize("first", [3, 8, 9, 16])
def test_parts_of_an_interlaced_clip_are_those_of_the_whole(tmp_path, first):
    """Also where a part begins with a keyframe: every eighth frame is one."""
    path = interlaced(tmp_path / "a.mp4")
    whole, _ = read(path)
    part, _ = read(path, Part(first, 6, whole[first].pts))
    counted, _ = read(path, Part(first, 6))
    for mine, other, expected in zip(part, counted, whole[first : first + 6], strict=True):
        np.testing.assert_array_equal(mine.image, expected.image)
        np.testing.assert_array_equal(other.image, expected.image)
        assert mine.pts == other.pts == expected.pts


def test_what_is_written_of_an_interlaced_clip_is_progressive(tmp_path):
    path, output = interlaced(tmp_path / "a.mp4", num_frames=6), tmp_path / "b.mp4"
    with open_reader(path) as reader, open_writer(output, source=reader.info) as writer:
        for frame in reader:
            writer.write(frame)
    with av.open(str(output)) as file:
        assert not any(frame.interlaced_frame for frame in file.decode(video=0))


def test_progressive_clips_have_no_notes(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for packet in packets(stream, [pattern(n) for n in range(3)]):
            file.mux(packet)
    assert read(path)[1].notes == ()
