"""Closed captions stay with their frames, whatever order an encoder puts these in."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import pytest

from tests.video.clips import make_clip
from vidinv.video import EncodeOptions, copy_media, join_segments, open_reader, open_writer
from vidinv.video.captions import MOST_TRIPLETS, captions_of
from vidinv.video.writer import segment_path

NUM_FRAMES = 24


def said(number: int) -> bytes:
    """Captions of a frame, its own: none for every fifth, runs of zeros in others."""
    if number % 5 == 4:
        return b""
    return b"\xfc\x80\x80" + bytes([0xFC, number, 0]) + (b"\0\0\1" if number % 3 else b"\0\0\0")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return make_clip(tmp_path_factory.mktemp("captions") / "a.mp4", num_frames=NUM_FRAMES)


@pytest.fixture(scope="module")
def captioned(plain) -> Path:
    """Checked by the first test: what it is made with is what is tested here."""
    written(plain, plain.with_name("b.mp4"), EncodeOptions(), [said(n) for n in range(NUM_FRAMES)])
    return plain.with_name("b.mp4")


def written(
    source: Path, output: Path, options: EncodeOptions, captions: Sequence[bytes] | None = None
) -> tuple[str, ...]:
    """Frames of ``source`` with other captions, or None: their own."""
    with (
        open_reader(source) as reader,
        open_writer(output, source=reader.info, options=options) as writer,
    ):
        for frame in reader:
            kept = frame.captions if captions is None else captions[frame.index]
            writer.write(replace(frame, captions=kept))
    return writer.warnings


def captions_in(path: Path) -> list[bytes]:
    """Of every frame as it is shown, by FFmpeg's decoder."""
    with av.open(str(path)) as container:
        return [captions_of(frame) for frame in container.decode(video=0)]


def bframes_of(path: Path) -> int:
    with av.open(str(path)) as container:
        times = [p.pts for p in container.demux(video=0) if p.size]
    return sum(a > b for a, b in itertools.pairwise(times))


@pytest.mark.parametrize(
    ("encoder", "suffix"),
    [
        ("libx264", ".mp4"),
        ("libx264", ".mkv"),
        ("libx265", ".mp4"),
        ("libsvtav1", ".mp4"),
        ("libsvtav1", ".webm"),
    ],
)
def test_captions_come_back_with_their_frames(captioned, tmp_path, encoder, suffix):
    options = EncodeOptions(encoder=encoder, preset="medium" if "x26" in encoder else None)
    assert written(captioned, tmp_path / f"c{suffix}", options) == ()
    assert captions_in(tmp_path / f"c{suffix}") == [said(n) for n in range(NUM_FRAMES)]
    if encoder != "libsvtav1":
        assert bframes_of(tmp_path / f"c{suffix}") > 3


def test_nothing_else_of_the_packets_changes(plain, captioned, tmp_path):
    written(plain, tmp_path / "a.mp4", EncodeOptions())
    pairs = []
    for path in (tmp_path / "a.mp4", captioned):
        with av.open(str(path)) as container:
            packets = [p for p in container.demux(video=0) if p.size]
            pairs.append([(p.pts, p.dts, p.duration, p.is_keyframe) for p in packets])
    assert pairs[0] == pairs[1]
    with av.open(str(tmp_path / "a.mp4")) as a, av.open(str(captioned)) as b:
        for one, other in zip(a.decode(video=0), b.decode(video=0), strict=True):
            assert bytes(one.planes[0]) == bytes(other.planes[0])


def test_the_most_that_fits_is_kept(plain, tmp_path):
    full = bytes(range(3 * MOST_TRIPLETS))
    written(plain, tmp_path / "b.mp4", EncodeOptions(), [full + b"\1\2\3"] * NUM_FRAMES)
    assert set(captions_in(tmp_path / "b.mp4")) == {full}


@pytest.mark.parametrize(("encoder", "suffix"), [("libvpx-vp9", ".webm"), ("prores_ks", ".mov")])
def test_encoders_without_captions_say_so(captioned, tmp_path, encoder, suffix):
    warnings = written(captioned, tmp_path / f"c{suffix}", EncodeOptions(encoder=encoder))
    assert [text for text in warnings if text.startswith("closed captions (A/53) are lost")]


def test_joined_segments_and_copies_keep_captions(captioned, tmp_path):
    output, options = tmp_path / "c.mp4", EncodeOptions()
    with open_reader(captioned) as reader:
        frames, info = list(reader), reader.info
    paths = []
    for part in (frames[:10], frames[10:]):
        stem = tmp_path / str(len(paths))
        path, how = segment_path(stem, output=output, options=options, source=info)
        with open_writer(path, source=info, options=how, segment=True) as writer:
            for frame in part:
                writer.write(frame)
        paths.append(path)
    times = [(frame.pts, frame.duration) for frame in frames]
    assert join_segments(paths, output, source=info, times=times) == ()
    copy_media(captioned, tmp_path / "d.mkv")
    for path in (output, tmp_path / "d.mkv"):
        assert captions_in(path) == [said(n) for n in range(NUM_FRAMES)]


def test_captions_of_a_made_up_broadcast_come_back(shared_dir, tmp_path):
    source = shared_dir / "inputs" / "09_captions_eia608.mp4"
    assert written(source, tmp_path / "a.mp4", EncodeOptions()) == ()
    assert captions_in(tmp_path / "a.mp4") == captions_in(source)
    assert any(captions_in(source))
