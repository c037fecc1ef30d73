"""Transparency in, transparency out: of clips, where the encoder has it; else its loss is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as PillowImage

from tests.video.clips import make_clip, pattern, psnr
from vidinv.errors import UsageError
from vidinv.video import (
    EncodeOptions,
    Part,
    VideoInfo,
    alpha_note,
    choose_encoder,
    copy_media,
    join_segments,
    open_reader,
    open_writer,
    probe,
    segment_path,
)
from vidinv.video import alpha as module
from vidinv.video.displayed import Displayed, Orientation

NUM_FRAMES = 6
WIDTH, HEIGHT = 96, 64


def disc(number: int, bits: int) -> np.ndarray:
    """``[H, W]`` alpha of a soft disc that moves: every kind of edge, 0 and the maximum."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    distance = np.hypot(x - 40 - 3 * number, y - 32)
    levels = np.clip((28 - distance) / 8, 0, 1) * ((1 << bits) - 1)
    return np.round(levels).astype(np.uint8 if bits == 8 else np.uint16)


def with_disc(path: Path, encoder: str, pix_fmt: str, *, num_frames: int = NUM_FRAMES) -> Path:
    """A clip of the moving pattern under the disc."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(encoder, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        bits = stream.codec_context.format.components[3].bits
        if encoder.startswith("libvpx"):
            how = {"b": "0"} if encoder == "libvpx-vp9" else {"b": "2000000", "auto-alt-ref": "0"}
            stream.codec_context.options = {"crf": "10", **how}
        for number in range(num_frames):
            picture = av.VideoFrame.from_ndarray(pattern(number, width=WIDTH, height=HEIGHT))
            if pix_fmt.startswith("yuva"):
                yuv = picture.reformat(format=module.opaque_format(pix_fmt))
                stored = np.iinfo(np.uint16 if bits > 8 else np.uint8).max
                wide = np.round(disc(number, bits) * (stored / ((1 << bits) - 1)))
                kind = np.uint16 if bits > 8 else np.uint8
                frame = module.with_alpha(yuv, wide.astype(kind), pix_fmt)
            else:
                rgba = np.dstack([pattern(number, width=WIDTH, height=HEIGHT), disc(number, 8)])
                frame = av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def stored_alpha(path: Path) -> list[np.ndarray]:
    """``[H, W]`` levels of each frame as the file has them, without this package's reader."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create(
            module.DECODERS.get(stream.codec_context.name, stream.codec_context.name), "r"
        )
        decoder.extradata = stream.codec_context.extradata
        if stream.codec_context.name not in module.DECODERS:
            frames = list(container.decode(stream))
        else:
            frames = [f for packet in container.demux(stream) for f in decoder.decode(packet)]
    found = []
    for frame in frames:
        plane = frame.planes[3]
        kind = np.uint16 if frame.format.components[3].bits > 8 else np.uint8
        rows = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
        found.append(rows[:, : plane.width].copy())
    return found


def trip(source: Path, output: Path, **options) -> tuple[str, ...]:
    how = EncodeOptions(**options)
    with open_reader(source) as reader, open_writer(output, source=reader.info, options=how) as w:
        for frame in reader:
            w.write(replace(frame, image=frame.image.copy()))
    return w.warnings


def worst(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> int:
    pairs = zip(a, b, strict=True)
    return max(int(np.abs(x.astype(int) - y.astype(int)).max()) for x, y in pairs)


def test_prores_4444_keeps_alpha_bit_for_bit(tmp_path):
    source = with_disc(tmp_path / "a.mov", "prores_ks", "yuva444p10le")
    assert trip(source, tmp_path / "b.mov") == ()
    with av.open(str(tmp_path / "b.mov")) as container:
        assert container.streams.video[0].codec_context.name == "prores"
        assert container.streams.video[0].codec_tag == "ap4h"
    before, after = stored_alpha(source), stored_alpha(tmp_path / "b.mov")
    assert len(before) == NUM_FRAMES
    assert worst(before, after) == 0
    with open_reader(source) as a, open_reader(tmp_path / "b.mov") as b:
        assert all(psnr(x.image, y.image) > 40 for x, y in zip(a, b, strict=True))


def test_lossless_alpha_of_8_bits(tmp_path):
    source = with_disc(tmp_path / "a.mkv", "ffv1", "yuva420p")
    assert trip(source, tmp_path / "b.mkv", encoder="ffv1") == ()
    assert worst(stored_alpha(source), stored_alpha(tmp_path / "b.mkv")) == 0


@pytest.mark.parametrize(("encoder", "suffix"), [("libvpx-vp9", ".webm"), ("libvpx", ".mkv")])
def test_vp8_and_vp9_give_alpha_and_vp9_keeps_it(tmp_path, encoder, suffix):
    source = with_disc(tmp_path / "a.webm", encoder, "yuva420p")
    assert probe(source).has_alpha
    assert probe(source).color_range == 1  # of the container: libvpx says nothing
    assert trip(source, tmp_path / f"b{suffix}") == ()
    before, after = stored_alpha(source), stored_alpha(tmp_path / f"b{suffix}")
    assert probe(tmp_path / f"b{suffix}").has_alpha
    assert worst(before, after) < 24  # of 255: VP9 is lossy
    assert (
        np.mean([np.abs(x.astype(int) - y).mean() for x, y in zip(before, after, strict=True)]) < 1
    )


@pytest.mark.parametrize(
    ("name", "encoder", "pix_fmt"), [("a.mov", "qtrle", "argb"), ("a.mov", "png", "rgba")]
)
def test_packed_alpha_becomes_prores_4444(tmp_path, name, encoder, pix_fmt):
    source = with_disc(tmp_path / name, encoder, pix_fmt)
    assert trip(source, tmp_path / "b.mov") == ()
    # FFmpeg encodes 10 bits, and decodes 12.
    alpha = [np.round(disc(n, 8) * (4095 / 255)) for n in range(NUM_FRAMES)]
    assert worst(alpha, stored_alpha(tmp_path / "b.mov")) <= 4


def test_what_has_no_alpha_loses_it_and_says_so_before_the_work(tmp_path):
    source = with_disc(tmp_path / "a.mov", "prores_ks", "yuva444p10le")
    info = probe(source)
    for output, how, is_lost in (
        ("b.mp4", EncodeOptions(), True),
        ("b.mov", EncodeOptions(), False),
        ("b.mov", EncodeOptions(encoder="libx264"), True),
        ("b.webm", EncodeOptions(pix_fmt="yuv420p"), True),
        ("b.mkv", EncodeOptions(), False),
    ):
        note = alpha_note(Path(output), how, info)
        assert (note is not None) == is_lost
        assert note is None or ".mov (ProRes 4444)" in note
    with pytest.raises(UsageError, match="--crf 18: prores_ks takes none"):
        alpha_note(Path("b.mov"), EncodeOptions(crf=18), info)
    said = trip(source, tmp_path / "b.mp4")
    assert len([text for text in said if text.startswith("the transparency of the source")]) == 1


def test_opaque_pictures_in_a_format_with_alpha_are_opaque_clips(tmp_path):
    source = make_clip(tmp_path / "a.gif", num_frames=3, encoder="gif", pix_fmt="rgb8")
    assert not probe(source).has_alpha
    assert not any("transparen" in text for text in trip(source, tmp_path / "b.mp4"))
    assert choose_encoder(Path("b.mov"), EncodeOptions(), source=probe(source)) == "libx264"


def test_a_transparent_gif_keeps_its_alpha_or_says_so(tmp_path):
    images = []
    for number in range(3):
        image = PillowImage.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0))
        image.paste((200, 80, 40, 255), (10 + 5 * number, 10, 60, 50))
        images.append(image)
    source = tmp_path / "a.gif"
    images[0].save(source, save_all=True, append_images=images[1:], duration=40, disposal=2)
    assert probe(source).has_alpha
    said = trip(source, tmp_path / "b.mp4")
    assert any(text.startswith("the transparency of the source is lost") for text in said)
    for suffix in (".mov", ".webm"):
        trip(source, tmp_path / f"b{suffix}")
        with open_reader(tmp_path / f"b{suffix}") as reader:
            alphas = [frame.alpha / np.iinfo(frame.alpha.dtype).max for frame in reader]
        expected = [np.asarray(image)[..., 3] / 255 for image in images]
        assert max(np.abs(a - e).mean() for a, e in zip(alphas, expected, strict=True)) < 0.02


def test_copies_name_alpha_that_the_container_drops(tmp_path):
    source = with_disc(tmp_path / "a.webm", "libvpx-vp9", "yuva420p")
    assert copy_media(source, tmp_path / "b.mkv") == ()
    assert worst(stored_alpha(source), stored_alpha(tmp_path / "b.mkv")) == 0
    assert any("transparency" in text for text in copy_media(source, tmp_path / "b.mp4"))


@pytest.mark.parametrize(
    ("source", "encoder", "pix_fmt"),
    [("a.mov", "prores_ks", "yuva444p10le"), ("a.webm", "libvpx-vp9", "yuva420p")],
)
def test_joined_segments_keep_alpha(tmp_path, source, encoder, pix_fmt):
    source = with_disc(tmp_path / source, encoder, pix_fmt, num_frames=12)
    output, paths = tmp_path / f"b{source.suffix}", []
    with open_reader(source) as reader:
        frames, info = list(reader), reader.info
    for first, end in pairwise((0, 5, 12)):
        path, how = segment_path(
            tmp_path / str(first), output=output, options=EncodeOptions(), source=info
        )
        part = Part(first, end - first, frames[first].pts)
        with (
            open_writer(path, source=info, options=how, segment=True) as writer,
            open_reader(source, part=part) as reader,
        ):
            for frame in reader:
                writer.write(frame)
        paths.append(path)
    times = [(frame.pts, frame.duration) for frame in frames]
    assert join_segments(paths, output, source=info, times=times) == ()
    with av.open(str(paths[0])) as one, av.open(str(output)) as joined:
        tags = [c.streams.video[0].codec_context.codec_tag for c in (one, joined)]
        assert tags[0] == tags[1] or encoder != "prores_ks"
    after = stored_alpha(output)
    assert worst(stored_alpha(source), after) <= (0 if encoder == "prores_ks" else 24)
    with open_reader(output) as reader:
        assert [f.time_seconds for f in reader] == pytest.approx([f.time_seconds for f in frames])


def test_alpha_is_turned_and_fitted_as_its_picture():
    info = VideoInfo(None, 8, 6, Fraction(1), coded_width=8, coded_height=6, has_alpha=True)
    displayed = Displayed(info, Orientation(transpose=False, flip_x=True, flip_y=False))
    rgba = np.zeros((6, 8, 4), np.uint8)
    rgba[:, :2, 3] = 200
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
    displayed(frame, 0)
    assert (displayed.alpha(frame)[:, -2:] == 200).all()
    assert not displayed.alpha(frame)[:, :-2].any()
    narrow = av.VideoFrame.from_ndarray(np.full((6, 4, 4), 255, np.uint8), format="rgba")
    displayed(narrow, 1)
    columns = displayed.alpha(narrow).max(0)
    assert (columns[2:6] > 250).all()
    assert not columns[:2].any()
    assert not columns[6:].any()


def test_transparency_that_begins_late_is_named(tmp_path):
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "rgba"
        for level in (255, 255, 100):
            rgba = np.full((16, 16, 4), level, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
        output.mux(stream.encode(None))
    with open_reader(path) as reader:
        assert not reader.info.has_alpha
        assert len(list(reader)) == 3
    assert any("transparent from frame 2 on" in note for note in reader.notes)
