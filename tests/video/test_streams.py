"""Files that play: what becomes of sound, covers, pixel formats and missing times."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.video.clips import make_clip, packets_of, pattern
from vidinv.errors import DecodeError, EncodeError, UsageError
from vidinv.video import EncodeOptions, VideoInfo, copy_media, open_reader, open_writer, probe
from vidinv.video.codecs import choose_encoder
from vidinv.video.frame_clock import FrameClock
from vidinv.video.pixels import PixelChoice

RATE = 8000


def with_sound(path: Path, codec: str, *, late: Fraction = Fraction(0)) -> Path:
    """A clip of a second with a click in the middle of its sound, in any container."""
    with av.open(str(path), "w") as output:
        picture = output.add_stream("mpeg4" if path.suffix == ".avi" else "libx264", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        sound = output.add_stream(codec, rate=RATE if codec.startswith("pcm") else 44100)
        sound.codec_context.layout, sound.codec_context.bit_rate = "stereo", 128_000
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(pattern(number, width=64, height=64), "rgb24")
            output.mux(picture.encode(frame))
        output.mux(picture.encode(None))
        rate = sound.codec_context.sample_rate
        samples = np.zeros((2, rate), np.float32)
        samples[:, rate // 2 : rate // 2 + 200] = 0.5
        frame = av.AudioFrame.from_ndarray(samples, "fltp", "stereo")
        frame.sample_rate, frame.pts = rate, round(late * rate)
        form, size = sound.codec_context.format, None if codec.startswith("pcm") else 2048
        for part in av.AudioResampler(form, "stereo", rate, size).resample(frame):
            output.mux(sound.encode(part))
        output.mux(sound.encode(None))
    return path


def click_seconds(path: Path) -> float:
    """When the sound of ``with_sound`` clicks."""
    with av.open(str(path)) as container:
        loud, place = [], 0
        for frame in container.decode(audio=0):
            values = frame.to_ndarray().astype(float)
            left = values[0] if frame.format.is_planar else values.reshape(-1)[::2]
            if frame.pts is not None:
                place = round(frame.pts * frame.time_base * frame.sample_rate)
            loud += list(place + np.flatnonzero(np.abs(left) > 0.25 * scale_of(frame)))
            place += frame.samples
        return float(min(loud) / frame.sample_rate)


def scale_of(frame: Any) -> float:
    return {"s16": 2**15, "s32": 2**31}.get(frame.format.name.rstrip("p"), 1.0)


def trip(source: Path, output: Path, **options) -> tuple[str, ...]:
    with (
        open_reader(source) as reader,
        open_writer(output, source=reader.info, options=EncodeOptions(**options)) as writer,
    ):
        for frame in islice(reader, 3):
            writer.write(frame)
    return writer.warnings


def codecs_of(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [s.codec_context.codec.canonical_name for s in container.streams]


@pytest.mark.parametrize(
    ("source", "codec", "output", "became"),
    [
        ("a.avi", "pcm_s16le", "b.mp4", "aac"),
        ("a.mkv", "pcm_s16le", "b.mp4", "aac"),
        ("a.mov", "pcm_s24le", "b.mp4", "aac"),
        ("a.wmv", "wmav2", "b.mov", "aac"),
        ("a.mp4", "aac", "b.webm", "opus"),
    ],
)
def test_sound_that_players_do_not_play_is_re_encoded(tmp_path, source, codec, output, became):
    source = with_sound(tmp_path / source, codec)
    (warning,) = trip(source, tmp_path / output)
    assert f"stream 1 (audio, {codec}) was re-encoded to" in warning
    assert codecs_of(tmp_path / output)[1] == became
    delay = 2048 / 44100 if codec == "wmav2" else 0.0  # of its decoder
    assert click_seconds(tmp_path / output) == pytest.approx(0.5 + delay, abs=2e-3)
    if output.endswith(".mp4") and codec.startswith("pcm"):
        assert ".mov keeps it" in warning


@pytest.mark.parametrize(
    ("source", "codec", "output"),
    [("a.avi", "pcm_s16le", "b.mov"), ("a.mkv", "pcm_s24le", "b.mkv"), ("a.wmv", "wmav2", "b.mkv")],
)
def test_sound_that_fits_is_copied(tmp_path, source, codec, output):
    source = with_sound(tmp_path / source, codec)
    assert trip(source, tmp_path / output) == ()
    sound = [b"".join(p[2] for p in packets_of(path)) for path in (source, tmp_path / output)]
    assert sound[0] == sound[1]


def test_unchanged_copies_follow_the_same_rules(tmp_path):
    source = with_sound(tmp_path / "a.mov", "pcm_s24le")
    (warning,) = copy_media(source, tmp_path / "b.mp4")
    assert "re-encoded to AAC" in warning
    assert codecs_of(tmp_path / "b.mp4") == ["h264", "aac"]
    assert copy_media(source, tmp_path / "c.mov") == ()
    assert (tmp_path / "c.mov").read_bytes() == source.read_bytes()


def with_cover(clip: Path, path: Path, *, picture: bool = True) -> Path:
    """``clip`` with a JPEG picture attached; without ``picture``, its sound alone."""
    cover = av.CodecContext.create("mjpeg", "w")
    cover.width, cover.height, cover.pix_fmt, cover.time_base = 64, 64, "yuvj420p", Fraction(1, 25)
    image = av.VideoFrame.from_ndarray(pattern(0, width=64, height=64), "rgb24")
    (data,) = [*cover.encode(image.reformat(format="yuvj420p")), *cover.encode(None)]
    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
        kept = [s for s in source.streams if picture or s.type == "audio"]
        streams = {s.index: output.add_stream_from_template(s, opaque=True) for s in kept}
        art = output.add_mux_stream("mjpeg", width=64, height=64)
        art.disposition = av.stream.Disposition.attached_pic
        for packet in source.demux(kept):
            if packet.size and packet.stream_index in streams:
                packet.stream = streams[packet.stream_index]
                output.mux(packet)
        attached = av.Packet(bytes(data))
        attached.stream, attached.pts, attached.dts = art, 0, 0
        output.mux(attached)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_cover_pictures_come_back(tmp_path, suffix):
    clip = make_clip(tmp_path / "a.mp4", num_frames=3)
    source, output = with_cover(clip, tmp_path / "c.mp4"), tmp_path / f"b{suffix}"
    warnings = trip(source, output)
    with av.open(str(source)) as a, av.open(str(output)) as b:
        before = bytes(next(a.demux(a.streams.video[1])))
        if suffix == ".webm":
            assert any("stream 1 (video, mjpeg) was left out" in text for text in warnings)
            return
        assert warnings == ()
        assert b.streams.video[1].disposition & av.stream.Disposition.attached_pic
        assert bytes(next(b.demux(b.streams.video[1]))) == before


def test_a_song_with_a_cover_is_no_video(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", num_frames=3, audio=True)
    song = with_cover(clip, tmp_path / "song.mp4", picture=False)
    with pytest.raises(DecodeError, match="is no video: its only picture is a cover"):
        probe(song)


@pytest.mark.parametrize("how", ["encoded", "copied"])
def test_mp4_plays_at_once_and_under_apples_name_for_h265(tmp_path, how):
    source = make_clip(tmp_path / "a.mkv", num_frames=3, encoder="libx265")
    if how == "encoded":
        trip(source, tmp_path / "b.mp4", encoder="libx265")
    else:
        copy_media(source, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].codec_tag == "hvc1"
    data = (tmp_path / "b.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def info(codec: str, pix_fmt: str, bits: int = 8) -> VideoInfo:
    return VideoInfo(None, 64, 64, Fraction(1, 25), pix_fmt=pix_fmt, bit_depth=bits, codec=codec)


@pytest.mark.parametrize(
    ("source", "encoder", "shown"),
    [
        (info("gif", "bgra"), "libx264", "yuv420p"),
        (info("mjpeg", "yuvj422p"), "libx264", "yuv420p"),
        (info("h264", "yuv444p"), "libx264", "yuv444p"),
        (info("h264", "yuv420p10le", 10), "libx264", "yuv420p10le"),
        (info("hevc", "yuv420p10le", 10), "libx264", "yuv420p"),
        (info("prores", "yuv422p10le", 10), "libx265", "yuv420p10le"),
        (info("prores", "yuv422p10le", 10), "prores_ks", "yuv422p10le"),
        (info("h264", "yuv422p"), "libvpx-vp9", "yuv420p"),
        (info("h264", "yuv444p"), "ffv1", "yuv444p"),
    ],
)
def test_outputs_have_pixels_that_players_show(source, encoder, shown):
    choice = PixelChoice(source, encoder)
    assert choice.shown == shown
    assert bool(choice.notes()) == (choice.shown != choice.nearest)
    assert all(f"--pix-fmt {choice.nearest}" in note for note in choice.notes())


def test_deep_sources_become_h265_where_nothing_is_asked_for():
    for source, expected in (
        (info("hevc", "yuv420p10le", 10), "libx265"),
        (info("h264", "yuv420p10le", 10), "libx264"),
        (info("hevc", "yuv420p"), "libx264"),
    ):
        assert choose_encoder(Path("a.mp4"), EncodeOptions(), source=source) == expected


def test_the_pixel_format_can_be_chosen(tmp_path):
    source = make_clip(tmp_path / "a.mp4", num_frames=3)
    assert trip(source, tmp_path / "b.mp4", pix_fmt="yuv444p") == ()
    assert probe(tmp_path / "b.mp4").pix_fmt == "yuv444p"
    with pytest.raises(UsageError, match=r"--pix-fmt rgb24: libx264 takes yuv420p, "):
        trip(source, tmp_path / "c.mp4", pix_fmt="rgb24")


class Timed:
    def __init__(self, pts: int | None) -> None:
        self.pts = pts


@pytest.mark.parametrize(
    ("given", "times"),
    [
        ([None, None, 60, 100], [-20, 20, 60, 100]),
        ([0, None, None, 90, 120], [0, 30, 60, 90, 120]),
        ([0, 40, None, None], [0, 40, 80, 120]),
        ([None] * 4, [0, 40, 80, 120]),
        ([None, None, 2, 42], [-78, -38, 2, 42]),
    ],
)
def test_made_up_times_lie_between_real_ones(given, times):
    base = VideoInfo(None, 8, 8, Fraction(1, 1000), average_rate=Fraction(25))
    clock = FrameClock(base, starts_at=Fraction(-1, 10))
    assert [time for _, time in clock.times(Timed(pts) for pts in given)] == times
    assert not clock.exact


def test_frames_of_raw_streams_are_not_kept_waiting():
    base = VideoInfo(None, 1920, 1080, Fraction(1, 25), average_rate=Fraction(25))
    clock = FrameClock(base)
    clock._most_waiting = 2
    assert [t for _, t in clock.times(Timed(None) for _ in range(6))] == list(range(6))


@pytest.mark.parametrize(
    ("source", "codec", "output", "advice"),
    [
        ("a.gif", "gif", "b.mp4", r"\.mp4 cannot hold the gif video .* as it is; use \.mkv$"),
        ("a.nut", "rawvideo", "b.mkv", r"\.mkv cannot hold the rawvideo .* convert the source"),
        ("a.nut", "rawvideo", "b.mp4", r"\.mp4 cannot .*, nor can \.mkv; convert the source"),
    ],
)
def test_advice_about_copies_can_be_followed(tmp_path, source, codec, output, advice):
    pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
    clip = make_clip(tmp_path / source, num_frames=3, encoder=codec, pix_fmt=pix_fmt)
    with pytest.raises(EncodeError, match=advice):
        copy_media(clip, tmp_path / output)
