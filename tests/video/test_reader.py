"""Reading: exact times, upright pixels, depth, colour; and every way a file can be bad."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.video.clips import make_clip, media_workers, pattern, plain_times, psnr, with_rotation
from vidinv.errors import DecodeError
from vidinv.video import open_reader, probe

GOOD_CLIPS = [
    ("cuts_crowd.mp4", 275, (640, 360)),
    ("expression_512.mp4", 354, (512, 512)),
    ("fullbody_720x1080.mp4", 103, (720, 1080)),
    ("greenscreen_512.mp4", 78, (512, 512)),
    ("grid_bbaf2n.mpg", 75, (360, 288)),
    ("grid_lbax4n.mpg", 75, (360, 288)),
    ("grid_pwij3p.mpg", 75, (360, 288)),
    ("landscape_1280x720.mp4", 282, (1280, 720)),
    ("noface_bottle.mp4", 1189, (640, 360)),
    ("outdoor_720x1364.mp4", 160, (720, 1364)),
    ("portrait_glasses_720x1280.mp4", 352, (720, 1280)),
    ("rotate90_noface.mov", 3, (320, 568)),
    ("sign_smallface.mkv", 63, (640, 480)),
    ("talk_hand_512.mp4", 183, (512, 512)),
]


def children() -> list[str]:
    return media_workers()


@pytest.mark.parametrize(("name", "num_frames", "size"), GOOD_CLIPS)
def test_real_clip_reads_whole_with_exact_times(shared_dir, name, num_frames, size):
    path = shared_dir / "clips" / name
    with open_reader(path) as reader:
        times = []
        for frame in reader:
            assert frame.image.shape == (size[1], size[0], 3)
            assert frame.index == len(times)
            times.append(frame.pts * frame.time_base)
        assert (reader.info.width, reader.info.height) == size
    assert len(times) == num_frames
    assert times == plain_times(path)
    assert not children()


def test_damaged_real_clip_fails(shared_dir):
    with (
        pytest.raises(DecodeError, match=r"corrupted.mp4: is damaged after frame \d+ \(\d"),
        open_reader(shared_dir / "clips" / "corrupted.mp4") as reader,
    ):
        list(reader)
    assert not children()


def test_info_of_real_clip(shared_dir):
    info = probe(shared_dir / "clips" / "talk_hand_512.mp4")
    assert (info.time_base, info.average_rate) == (Fraction(1, 90000), 25)
    assert (info.num_frames, info.codec, info.bit_depth) == (183, "h264", 8)
    assert (info.color_matrix, info.color_range, info.color_primaries) == (6, 1, 6)
    assert [(s.kind, s.codec) for s in info.other_streams] == [("audio", "aac")]
    assert info.duration_seconds == pytest.approx(7.32)
    assert not info.is_still_image


def test_pixels_come_back(tmp_path):
    path = make_clip(tmp_path / "a.mp4", num_frames=3, pix_fmt="yuv444p", crf=4)
    with open_reader(path) as reader:
        for frame in reader:
            assert frame.image.dtype == np.uint8
            assert psnr(frame.image, pattern(frame.index)) > 40


@pytest.mark.parametrize("tags", [(1, 2, 1, 1), (1, 1, 1, 1), (9, 1, 9, 14), (6, 2, 6, 6)])
def test_color_tags_are_honoured(tmp_path, tags):
    path = make_clip(tmp_path / "a.mp4", num_frames=2, pix_fmt="yuv444p", crf=4, tags=tags)
    with open_reader(path) as reader:
        info, frame = reader.info, next(reader)
    assert (info.color_matrix, info.color_range) == tags[:2]
    assert (info.color_primaries, info.color_transfer) == tags[2:]
    assert psnr(frame.image, pattern(0)) > 40
    assert abs(frame.image.mean() - pattern(0).mean()) < 1.0  # PyAV's own way in loses 0.5


def test_ten_bits_become_full_range_uint16(tmp_path):
    path = make_clip(tmp_path / "a.mp4", num_frames=2, dtype="uint16", pix_fmt="yuv444p10le", crf=2)
    with open_reader(path) as reader:
        assert reader.info.bit_depth == 10
        frame = next(reader)
    assert frame.image.dtype == np.uint16
    assert psnr(frame.image, pattern(0, dtype="uint16")) > 45


@pytest.mark.parametrize(("degrees", "turns"), [(90, -1), (180, 2), (270, 1)])
def test_rotation_is_applied(tmp_path, degrees, turns):
    plain = make_clip(tmp_path / "a.mp4", num_frames=2)
    turned = with_rotation(plain, tmp_path / "b.mp4", degrees=degrees)
    with open_reader(plain) as a, open_reader(turned) as b:
        assert b.info.rotation == degrees
        assert (b.info.coded_width, b.info.coded_height) == (96, 64)
        assert np.array_equal(next(b).image, np.rot90(next(a).image, turns))


def test_rotation_turns_the_pixel_aspect(tmp_path):
    how = {"num_frames": 2, "aspect": Fraction(4, 3)}
    assert probe(make_clip(tmp_path / "a.mp4", **how)).sample_aspect_ratio == Fraction(4, 3)
    turned = make_clip(tmp_path / "b.mp4", rotation=90, **how)
    assert probe(turned).sample_aspect_ratio == Fraction(3, 4)


def test_still_image_is_said(tmp_path):
    from vidinv.video import write_image

    write_image(tmp_path / "a.png", pattern(0))
    info = probe(tmp_path / "a.png")
    assert info.is_still_image
    assert (info.width, info.height) == (96, 64)


def test_missing_file_fails(tmp_path):
    with pytest.raises(DecodeError, match="no such file"):
        probe(tmp_path / "absent.mp4")


@pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)) * 64])
def test_file_that_is_no_video_fails(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"a\.mp4: cannot be read as video") as error:
        probe(path)
    assert "\n" not in str(error.value)


def test_sound_only_fails(tmp_path):
    import av

    path = make_clip(tmp_path / "a.mp4", audio=True)
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mp4"), "w") as output:
        sound = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = sound
                output.mux(packet)
    with pytest.raises(DecodeError, match="no video stream"):
        probe(tmp_path / "b.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("part", [0.02, 0.2, 0.5, 0.9, 0.999])
def test_cut_short_fails(tmp_path, suffix, part):
    path = make_clip(tmp_path / f"a{suffix}", num_frames=30, audio=True, faststart=suffix == ".mp4")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(DecodeError, match=r"a\.m"), open_reader(path) as reader:
        list(reader)
    assert not children()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_cut_short_mpeg_fails_or_is_whole(shared_dir, tmp_path, part):
    data = (shared_dir / "clips" / "grid_bbaf2n.mpg").read_bytes()
    path = tmp_path / "a.mpg"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(DecodeError, match="damaged after frame"), open_reader(path) as reader:
        list(reader)


def test_flipped_bytes_never_hang_or_crash(tmp_path):
    path = make_clip(tmp_path / "a.mp4", num_frames=10, faststart=True)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    for trial in range(6):
        noisy = data.copy()
        places = rng.integers(0, len(data), 20)
        noisy[places] = rng.integers(0, 256, 20)
        bad = tmp_path / f"bad{trial}.mp4"
        bad.write_bytes(noisy.tobytes())
        start = time.monotonic()
        with contextlib.suppress(DecodeError), open_reader(bad) as reader:
            list(reader)
        assert time.monotonic() - start < 30
    assert not children()


def test_hanging_decoder_is_killed(tmp_path):
    path = make_clip(tmp_path / "a.mp4", num_frames=2)
    start = time.monotonic()
    with (
        pytest.raises(DecodeError, match=r"a\.mp4: decoding hung for 0.5 s before the first frame"),
        open_reader(path, timeout_seconds=0.5, worker="tests.video.bad_workers"),
    ):
        pass
    assert time.monotonic() - start < 5
    assert not children()


def test_crashing_decoder_is_an_error(tmp_path):
    path = make_clip(tmp_path / "a.mp4", num_frames=2)
    with (
        pytest.raises(DecodeError, match=r"a\.mp4: the decoder crashed after 2 frames .*signal 6"),
        open_reader(path, worker="tests.video.crashing_worker") as reader,
    ):
        list(reader)
    assert not children()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("way", ["break", "raise", "interrupt", "collect"])
def test_leaving_early_leaks_nothing(tmp_path, way):
    path = make_clip(tmp_path / "a.mp4", num_frames=40)
    before = open_descriptors()
    try:
        reader = open_reader(path).__enter__()
        next(reader)
        if way == "collect":
            del reader
            gc.collect()
        else:
            with reader:
                if way == "raise":
                    raise ValueError
                if way == "interrupt":
                    raise KeyboardInterrupt
    except (ValueError, KeyboardInterrupt):
        pass
    assert not children()
    assert open_descriptors() == before


def runs(process: psutil.Process) -> bool:
    """Alive; an orphan that nobody waits for stays as a zombie in some containers."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_child_ends_when_the_parent_is_killed(tmp_path):
    path = make_clip(tmp_path / "a.mp4", num_frames=40)
    program = (
        "import sys, time; from vidinv.video import open_reader\n"
        f"r = open_reader({str(path)!r}).__enter__(); next(r)\n"
        "print(r._child.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while runs(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(child)


def test_child_imports_neither_torch_nor_opencv():
    program = (
        "import sys, vidinv.video.decode_worker, vidinv.video.encode_worker\n"
        "print(sorted({'torch', 'cv2', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_frames_are_owned(tmp_path):
    path = make_clip(tmp_path / "a.mp4", num_frames=30, pix_fmt="yuv444p", crf=4)
    with open_reader(path) as reader:
        frames = list(reader)
    assert all(psnr(f.image, pattern(f.index)) > 40 for f in frames)


def test_reading_outside_with_fails(tmp_path):
    reader = open_reader(Path(tmp_path / "a.mp4"))
    with pytest.raises(RuntimeError, match="with"):
        _ = reader.info
