"""Writing: what the source had comes back, and nothing is left behind when it fails."""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.clips import (
    comment_of,
    make_clip,
    media_workers,
    packets_of,
    pattern,
    plain_times,
    psnr,
)
from vidinv.errors import DecodeError, EncodeError, UnknownNameError, UsageError
from vidinv.types import Frame
from vidinv.video import (
    EncodeOptions,
    VideoInfo,
    codecs,
    copy_media,
    describing,
    open_reader,
    open_writer,
    probe,
)

CLIPS = [
    "cuts_crowd.mp4",
    "expression_512.mp4",
    "fullbody_720x1080.mp4",
    "greenscreen_512.mp4",
    "grid_bbaf2n.mpg",
    "grid_lbax4n.mpg",
    "grid_pwij3p.mpg",
    "landscape_1280x720.mp4",
    "noface_bottle.mp4",
    "outdoor_720x1364.mp4",
    "portrait_glasses_720x1280.mp4",
    "rotate90_noface.mov",
    "sign_smallface.mkv",
    "talk_hand_512.mp4",
]
NUM_FRAMES = 24
TAGS = ("sample_aspect_ratio", "color_matrix", "color_primaries", "color_transfer", "width")


def trip(source: Path, output: Path, *, limit: int | None = None, **options) -> tuple[str, ...]:
    with (
        open_reader(source) as reader,
        open_writer(output, source=reader.info, options=EncodeOptions(**options)) as writer,
    ):
        for frame in islice(reader, limit):
            writer.write(frame)
    return writer.warnings


def read(path: Path, limit: int | None = None) -> list[Frame]:
    with open_reader(path) as reader:
        return list(islice(reader, limit))


def seconds(frames: list[Frame]) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames]


def same_sound(a: Path, b: Path, *, slack: float = 0.0) -> bool:
    one, other = packets_of(a), packets_of(b)
    close = all(abs(x[0] - y[0]) <= slack for x, y in zip(one, other, strict=True))
    return close and [p[2] for p in one] == [p[2] for p in other]


@pytest.mark.parametrize("name", CLIPS)
def test_real_clip_comes_back(shared_dir, tmp_path, name):
    source = shared_dir / "clips" / name
    output = tmp_path / (Path(name).stem + (".mkv" if name.endswith("mkv") else ".mp4"))
    warnings = trip(source, output, limit=NUM_FRAMES)
    assert warnings == ()
    before, after = read(source, NUM_FRAMES), read(output)
    assert seconds(after) == seconds(before) == plain_times(output)
    assert [f.duration * f.time_base for f in after[:-1]] == pytest.approx(
        [f.duration * f.time_base for f in before[:-1]], abs=1e-3
    )
    assert min(psnr(a.image, b.image) for a, b in zip(after, before, strict=True)) >= 40
    a, b = probe(source), probe(output)
    assert [getattr(a, t) for t in TAGS] == [getattr(b, t) for t in TAGS]
    assert max(1, a.color_range) == max(1, b.color_range)
    # MPEG program streams keep sound times in 1/90000 s, MP4 in samples.
    assert same_sound(source, output, slack=1 / 90000 if name.endswith("mpg") else 0.0)
    assert os.listdir(tmp_path) == [output.name]


@pytest.mark.parametrize("name", ["sign_smallface.mkv", "talk_hand_512.mp4"])
def test_brightness_does_not_drift(shared_dir, tmp_path, name):
    source = shared_dir / "clips" / name
    trip(source, tmp_path / "a.mp4", limit=8, crf=12)
    pairs = zip(read(tmp_path / "a.mp4"), read(source, 8), strict=True)
    shifts = [a.image.mean(dtype=float) - b.image.mean(dtype=float) for a, b in pairs]
    assert max(abs(s) for s in shifts) < 0.3


@pytest.mark.parametrize("tags", [(1, 2, 1, 1), (1, 1, 1, 1), (9, 1, 9, 14), (2, 0, 2, 2)])
def test_color_tags_and_levels_come_back(tmp_path, tags):
    source = make_clip(tmp_path / "a.mp4", num_frames=4, tags=tags)
    trip(source, tmp_path / "b.mp4", crf=8)
    a, b = probe(source), probe(tmp_path / "b.mp4")
    for name in ("color_matrix", "color_range", "color_primaries", "color_transfer"):
        assert getattr(b, name) == getattr(a, name)
    for x, y in zip(read(source), read(tmp_path / "b.mp4"), strict=True):
        assert abs(x.image.mean() - y.image.mean()) < 0.3
        assert psnr(x.image, y.image) > 40


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_variable_rate_and_late_start_come_back(tmp_path, suffix):
    pts = [700, 740, 741, 900, 1500, 1501, 1502, 1503, 4000, 4001, 4040, 4444]
    source = make_clip(tmp_path / f"a{suffix}", pts=pts, time_base=Fraction(1, 1000), audio=True)
    trip(source, tmp_path / f"b{suffix}")
    assert plain_times(tmp_path / f"b{suffix}") == plain_times(source)
    assert [round(t * 1000) for t in plain_times(source)] == pts
    assert same_sound(source, tmp_path / f"b{suffix}")


def test_fine_time_base_comes_back(tmp_path):
    pts = [0, 1001, 2003, 3003, 90001, 90002, 90100, 180000, 180500, 180900, 181000, 190001]
    source = make_clip(tmp_path / "a.mp4", pts=pts, time_base=Fraction(1, 90000))
    assert trip(source, tmp_path / "b.mp4") == ()
    assert probe(tmp_path / "b.mp4").time_base == Fraction(1, 90000)
    assert plain_times(tmp_path / "b.mp4") == plain_times(source)


def test_times_are_said_to_be_rounded_where_they_are(tmp_path):
    base = Fraction(1, 90000)
    exact = make_clip(tmp_path / "a.mp4", num_frames=3, time_base=base)
    assert trip(exact, tmp_path / "b.mkv") == ()
    source = make_clip(tmp_path / "c.mp4", num_frames=3, time_base=base, pts=[0, 3601, 7200])
    (warning,) = trip(source, tmp_path / "b.mkv")
    assert "1/1000 s" in warning
    assert "rounded" in warning


def test_rotated_source_becomes_upright(tmp_path):
    how = {"num_frames": 4, "aspect": Fraction(4, 3), "rotation": 90}
    source = make_clip(tmp_path / "a.mp4", **how)
    trip(source, tmp_path / "b.mp4", crf=8)
    a, b = probe(source), probe(tmp_path / "b.mp4")
    assert (b.width, b.height, b.sample_aspect_ratio) == (a.width, a.height, Fraction(3, 4))
    assert (b.rotation, b.coded_width, b.coded_height) == (0, 64, 96)
    frames = zip(read(source), read(tmp_path / "b.mp4"), strict=True)
    assert all(psnr(x.image, y.image) > 40 for x, y in frames)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_odd_size_is_kept(tmp_path, suffix):
    source = make_clip(tmp_path / "a.mp4", num_frames=4, width=97, height=63, pix_fmt="yuv444p")
    trip(source, tmp_path / f"b{suffix}")
    info = probe(tmp_path / f"b{suffix}")
    assert (info.width, info.height, info.sample_aspect_ratio) in [(97, 63, None), (97, 63, 1)]
    assert psnr(read(source)[0].image, read(tmp_path / f"b{suffix}")[0].image) > 35


def test_odd_size_of_420_source_is_said(tmp_path):
    source = make_clip(tmp_path / "a.webm", num_frames=3, width=97, height=63, encoder="libvpx-vp9")
    (warning,) = [w for w in trip(source, tmp_path / "b.mp4") if "odd" in w]
    assert "97x63" in warning
    assert probe(tmp_path / "b.mp4").pix_fmt == "yuv444p"


def test_ten_bits_stay_ten_bits(tmp_path):
    source = make_clip(tmp_path / "a.mp4", num_frames=4, dtype="uint16", pix_fmt="yuv420p10le")
    assert trip(source, tmp_path / "b.mp4") == ()
    assert probe(tmp_path / "b.mp4").pix_fmt == "yuv420p10le"
    x, y = read(source)[2].image, read(tmp_path / "b.mp4")[2].image
    assert psnr(x, y) > 40
    assert abs(x.mean() - y.mean()) / 257 < 0.3


def test_title_and_chapters_come_back(tmp_path):
    plain, source = make_clip(tmp_path / "a.mp4", num_frames=25), tmp_path / "c.mkv"
    chapter = {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000)}
    with av.open(str(plain)) as a, av.open(str(source), "w") as output:
        stream = output.add_stream_from_template(a.streams.video[0], opaque=True)
        output.metadata["title"] = "Tea"
        output.set_chapters([{**chapter, "metadata": {"title": "Pour"}}])
        for packet in a.demux(a.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    trip(source, tmp_path / "b.mp4")
    with av.open(str(tmp_path / "b.mp4")) as b:
        assert b.metadata["title"] == "Tea"
        (got,) = b.chapters()
        assert got["metadata"]["title"] == "Pour"
        assert got["end"] * got["time_base"] == Fraction(1, 2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_tags_that_are_not_utf8_are_kept_byte_for_byte(tmp_path, suffix):
    plain, source = make_clip(tmp_path / "a.mp4", num_frames=2), tmp_path / "b.mp4"
    title = b"caf\xe9".decode(errors="surrogateescape")
    how = {"metadata_errors": "surrogateescape"}
    with av.open(str(plain)) as a, av.open(str(source), "w", **how) as output:
        stream = output.add_stream_from_template(a.streams.video[0], opaque=True)
        output.metadata["title"] = title
        for packet in a.demux(a.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    trip(source, tmp_path / f"c{suffix}")
    copy_media(source, tmp_path / f"d{suffix}")
    for name in "cd":
        with av.open(str(tmp_path / f"{name}{suffix}"), **how) as made:
            assert {k.lower(): v for k, v in made.metadata.items()}["title"] == title
    assert describing.describe(source)["tags"]["title"] == "caf\ufffd"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_a_comment_stands_behind_the_sources_own(tmp_path, suffix):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    clip = VideoInfo.from_scratch(width=64, height=64, rate=25)
    for source, output, comment in ((clip, first, "Tea"), (first, second, "edited")):
        with open_writer(output, source=source, comment=comment) as writer:
            writer.write(Frame(0, 0, Fraction(1, 25), pattern(0, width=64, height=64)))
    assert comment_of(second) == "Tea | edited"


def test_a_finished_file_may_be_changed_before_it_has_its_name(tmp_path):
    output = tmp_path / "a.mkv"

    def finish(path):
        assert os.listdir(tmp_path) == [path.name]
        assert len(read(path)) == 1
        if refused:
            raise EncodeError("no")

    clip = VideoInfo.from_scratch(width=64, height=64, rate=25)
    for refused in (True, False):
        try:
            with open_writer(output, source=clip, finish=finish) as writer:
                writer.write(Frame(0, 0, Fraction(1, 25), pattern(0, width=64, height=64)))
        except EncodeError:
            assert refused
        assert os.listdir(tmp_path) == ([] if refused else ["a.mkv"])


def test_no_encoder_takes_real_time_priority(tmp_path):
    clip = VideoInfo.from_scratch(width=64, height=64, rate=25)
    options = EncodeOptions(encoder="libsvtav1")
    with open_writer(tmp_path / "a.mp4", source=clip, options=options) as writer:
        writer.write(Frame(0, 0, Fraction(1, 25), pattern(0, width=64, height=64)))
        child = writer._session.child.pid
        threads = map(int, os.listdir(f"/proc/{child}/task"))
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}


@pytest.mark.parametrize(
    ("suffix", "encoder"),
    [(".mp4", "libx265"), (".mp4", "libsvtav1"), (".mov", "prores_ks"), (".mkv", "ffv1"),
     (".webm", None)],
)  # fmt: skip
def test_every_encoder_works(tmp_path, suffix, encoder):
    source = make_clip(tmp_path / "a.mp4", num_frames=6)
    trip(source, tmp_path / f"b{suffix}", encoder=encoder)
    x, y = read(source), read(tmp_path / f"b{suffix}")
    assert seconds(x) == seconds(y)
    after = y[3].image if encoder != "prores_ks" else np.round(y[3].image / 257).astype(np.uint8)
    assert psnr(x[3].image, after) > 38


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".webm"])
def test_the_same_work_gives_the_same_bytes(tmp_path, suffix):
    """Muxers write random ids and versions otherwise, and a resumed run could not be compared."""
    source = make_clip(tmp_path / "in.mp4", num_frames=3, audio=True)
    for name in ("a", "b"):
        trip(source, tmp_path / f"{name}{suffix}", threads=1)
        copy_media(source, tmp_path / f"{name}_copy.mkv")
    for end in (suffix, "_copy.mkv"):
        assert (tmp_path / f"a{end}").read_bytes() == (tmp_path / f"b{end}").read_bytes()


def test_video_from_scratch(tmp_path):
    info = VideoInfo.from_scratch(width=96, height=64, rate=Fraction(30000, 1001))
    with open_writer(tmp_path / "a.mp4", source=info) as writer:
        for n in range(5):
            writer.write(Frame(n, n, info.time_base, pattern(n)))
    assert seconds(read(tmp_path / "a.mp4")) == [n * Fraction(1001, 30000) for n in range(5)]


def write_frames(path: Path, info: VideoInfo, frames: Iterable[Frame], **options) -> None:
    with open_writer(path, source=info, options=EncodeOptions(**options)) as writer:
        for frame in frames:
            writer.write(frame)


def write_some(path: Path, **changes) -> None:
    info = VideoInfo.from_scratch(width=96, height=64, rate=25)
    with open_writer(path, source=info, **changes) as writer:
        for n in range(5):
            writer.write(Frame(n, n, info.time_base, pattern(n)))


def test_unknown_encoder_fails_and_lists(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown encoder 'x264'; there are: libx264"):
        write_some(tmp_path / "a.mp4", options=EncodeOptions(encoder="x264"))


def test_encoder_that_does_not_fit_fails(tmp_path):
    with pytest.raises(UsageError, match=r"\.webm does not hold libx264; use .*libvpx-vp9"):
        write_some(tmp_path / "a.webm", options=EncodeOptions(encoder="libx264"))


@pytest.mark.parametrize("name", ["a.xyz", "a"])
def test_unknown_extension_fails(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.mp4"):
        write_some(tmp_path / name)


def test_missing_folder_fails(tmp_path):
    with pytest.raises(EncodeError, match=r"folder .* does not exist"):
        write_some(tmp_path / "absent" / "a.mp4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "warp"}, r"--preset warp: libx264 takes ultrafast, .*, placebo$"),
        ({"preset": ""}, r"--preset : libx264 takes ultrafast"),
        ({"crf": -5}, r"--crf -5: libx264 takes 0 to 51$"),
        ({"crf": 99}, r"--crf 99: libx264 takes 0 to 51$"),
        ({"encoder": "libx265", "crf": 52}, r"--crf 52: libx265 takes 0 to 51$"),
        ({"encoder": "libx265", "preset": "warp"}, r"--preset warp: libx265 takes ultrafast"),
        ({"encoder": "libsvtav1", "preset": "fast"}, r"--preset fast: libsvtav1 takes -2, .*, 13$"),
        ({"encoder": "libsvtav1", "crf": 64}, r"--crf 64: libsvtav1 takes 0 to 63$"),
        ({"encoder": "libvpx-vp9", "crf": 64}, r"--crf 64: libvpx-vp9 takes 0 to 63$"),
        ({"encoder": "libvpx-vp9", "preset": "fast"}, r"--preset fast: libvpx-vp9 takes none$"),
        ({"encoder": "ffv1", "crf": 5}, r"--crf 5: ffv1 takes none$"),
    ],
)
def test_options_that_the_encoder_refuses_fail_before_any_work(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        write_some(tmp_path / "a.mkv", options=EncodeOptions(**options))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("encoder", codecs.ENCODERS)
def test_encoders_take_the_ends_of_what_is_said_to_be_possible(tmp_path, encoder):
    how = codecs.ENCODERS[encoder]
    wide = [{"crf": crf} for crf in how.crfs or ()]
    wide += [{"preset": name} for name in (*how.presets[:1], *how.presets[7:9], *how.presets[-1:])]
    for number, options in enumerate(wide):
        path = tmp_path / f"{number}.mkv"
        write_some(path, options=EncodeOptions(encoder=encoder, **options))
        assert len(read(path)) == 5


def test_what_the_encoder_itself_refuses_fails_and_leaves_nothing(tmp_path, monkeypatch):
    how = dataclasses.replace(codecs.ENCODERS["libx264"], preset="warp")
    monkeypatch.setitem(codecs.ENCODERS, "libx264", how)
    with pytest.raises(EncodeError, match=r"a\.mp4: encoding failed"):
        write_some(tmp_path / "a.mp4")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("wrong", ["size", "depth", "time"])
def test_frame_that_does_not_fit_fails(tmp_path, wrong):
    info = VideoInfo.from_scratch(width=96, height=64, rate=25)
    good = Frame(0, 0, info.time_base, pattern(0))
    change = {
        "size": {"image": pattern(0, width=90)},
        "depth": {"image": pattern(0, dtype="uint16")},
        "time": {},
    }[wrong]
    with pytest.raises(UsageError):
        write_frames(tmp_path / "a.mp4", info, [good, dataclasses.replace(good, **change)])
    assert os.listdir(tmp_path) == []


def test_no_frame_fails(tmp_path):
    info = VideoInfo.from_scratch(width=96, height=64, rate=25)
    with (
        pytest.raises(EncodeError, match="no frame"),
        open_writer(tmp_path / "a.mp4", source=info),
    ):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_interruption_leaves_the_old_file(tmp_path, error):
    output = tmp_path / "a.mp4"
    output.write_text("old")
    info = VideoInfo.from_scratch(width=96, height=64, rate=25)

    def frames():
        yield Frame(0, 0, info.time_base, pattern(0))
        raise error

    with pytest.raises(error):
        write_frames(output, info, frames())
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert output.read_text() == "old"
    assert not media_workers()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_signal_leaves_nothing(tmp_path, number):
    program = (
        # A shell that starts the tests in the background has SIGINT ignored in all of them.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import time; from tests.video.clips import pattern\n"
        "from vidinv.types import Frame; from vidinv.video import VideoInfo, open_writer\n"
        "info = VideoInfo.from_scratch(width=96, height=64, rate=25)\n"
        f"with open_writer({str(tmp_path / 'a.mp4')!r}, source=info) as writer:\n"
        "    writer.write(Frame(0, 0, info.time_base, pattern(0)))\n"
        "    print('ready', flush=True); time.sleep(60)"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        process.stdout.readline()
        assert len(os.listdir(tmp_path)) == 1
        process.send_signal(number)
    deadline = time.monotonic() + 5
    while os.listdir(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert os.listdir(tmp_path) == []


def test_full_disk_fails_and_leaves_nothing(tmp_path):
    """A file size limit stands in for a full disk: writing fails half-way in both."""
    info = VideoInfo.from_scratch(width=96, height=64, rate=25)
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    frames = [Frame(n, n, info.time_base, np.roll(noise, n * 7, axis=0)) for n in range(200)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))
    try:
        with pytest.raises(EncodeError, match=r"a\.mp4: .*too large"):
            write_frames(tmp_path / "a.mp4", info, frames, crf=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_copy_keeps_every_packet(shared_dir, tmp_path, suffix):
    source = shared_dir / "clips" / "expression_512.mp4"
    assert copy_media(source, tmp_path / f"a{suffix}") == ()
    slack = 0.0 if suffix == ".mp4" else 1e-3
    if suffix == ".mp4":
        assert same_sound(source, tmp_path / f"a{suffix}")
    else:  # what lies before 0 is never played, and Matroska could not hide it
        played = [p[2] for p in packets_of(source) if p[0] >= 0]
        assert [p[2] for p in packets_of(tmp_path / f"a{suffix}")] == played
    pictures = [packets_of(p, "video") for p in (source, tmp_path / f"a{suffix}")]
    assert [p[2] for p in pictures[0]] == [p[2] for p in pictures[1]]
    copy_media(tmp_path / f"a{suffix}", tmp_path / "again.mp4")
    assert [p[2] for p in packets_of(tmp_path / "again.mp4", "video")] == [
        p[2] for p in pictures[0]
    ]
    (tmp_path / "again.mp4").unlink()
    assert seconds(read(tmp_path / f"a{suffix}")) == pytest.approx(seconds(read(source)), abs=slack)
    assert os.listdir(tmp_path) == [f"a{suffix}"]


def test_copy_keeps_the_rotation(shared_dir, tmp_path):
    copy_media(shared_dir / "clips" / "rotate90_noface.mov", tmp_path / "a.mp4")
    info = probe(tmp_path / "a.mp4")
    assert (info.width, info.height, info.rotation) == (320, 568, 90)


def test_copy_of_nothing_fails(tmp_path):
    with pytest.raises(DecodeError, match="no such file"):
        copy_media(tmp_path / "absent.mp4", tmp_path / "a.mp4")
    (tmp_path / "bad.mp4").write_text("no video")
    with pytest.raises(EncodeError, match=r"a\.mp4: "):
        copy_media(tmp_path / "bad.mp4", tmp_path / "a.mp4")
    assert os.listdir(tmp_path) == ["bad.mp4"]


def test_copy_into_a_container_that_cannot_hold_it_fails(shared_dir, tmp_path):
    with pytest.raises(EncodeError, match="cannot hold"):
        copy_media(shared_dir / "clips" / "greenscreen_512.mp4", tmp_path / "a.webm")
    assert os.listdir(tmp_path) == []
