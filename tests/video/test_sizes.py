"""No size of picture crashes the encoder: native readers go past the last pixel, into padding."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.video.clips import pattern
from tests.video.sizes import critical_sizes
from vidinv.types import Frame
from vidinv.video import EncodeOptions, VideoInfo, open_reader, open_writer
from vidinv.video.isolation import MAX_SLOTS, PADDING_BYTES, FrameRing

# swscale reads 48 bytes for 16 pixels, from the first byte of any pixel of three bytes.
MOST_READ_PAST_THE_END = 45
# (width, height) of clips from phones that crashed libx264, and of one that crashed libsvtav1.
PHONES = [(360, 640), (568, 320), (360, 512), (232, 512), (328, 576), (376, 640), (504, 896),
          (424, 768), (600, 1024)]  # fmt: skip
SHARED = ["00_encoder_segfault_360x512_sar64-45.mp4", "00_encoder_segfault_360x640.mp4"]


def run_sizes(*arguments: str) -> tuple[int, str]:
    """Exit status of ``tests.video.sizes`` and the last size it tried."""
    command = [sys.executable, "-m", "tests.video.sizes", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = result.stdout.split() or [result.stderr]
    return result.returncode, lines[-1]


def write_blank(path, width: int, height: int, **options) -> int:
    """More frames than the ring has slots."""
    info = VideoInfo.from_scratch(width=width, height=height, rate=25)
    image = np.zeros((height, width, 3), np.uint8)
    with open_writer(path, source=info, options=EncodeOptions(**options)) as writer:
        for number in range(MAX_SLOTS + 2):
            writer.write(Frame(number, number, info.time_base, image, 1))
    return writer.num_written


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(("width", "height"), [(64, 64), (360, 640), (333, 77), (1920, 1080)])
def test_the_ring_ends_behind_its_last_slot(width, height, dtype):
    ring = FrameRing()
    ring.map(height=height, width=width, dtype=dtype)
    slots = ring.num_slots * ring.slot(0).nbytes
    assert os.fstat(ring.fd).st_size - slots == PADDING_BYTES > MOST_READ_PAST_THE_END
    first, last = ring.slot(0), ring.slot(ring.num_slots - 1)
    assert last.ctypes.data + last.nbytes == first.ctypes.data + slots
    last[:] = pattern(1, width=width, height=height, dtype=dtype)
    other = FrameRing(os.dup(ring.fd))
    other.map(height=height, width=width, dtype=dtype)
    np.testing.assert_array_equal(other.slot(ring.num_slots - 1), last)
    ring.close()
    other.close()


@pytest.mark.parametrize(("width", "height"), PHONES)
def test_sizes_of_phones(tmp_path, width, height):
    assert write_blank(tmp_path / "a.mp4", width, height, preset="ultrafast") == MAX_SLOTS + 2


def test_full_hd_upright_as_av1(tmp_path):
    options = {"encoder": "libsvtav1", "preset": "13", "crf": 60}
    assert write_blank(tmp_path / "a.mp4", 1080, 1920, **options) == MAX_SLOTS + 2


@pytest.mark.parametrize("name", SHARED)
def test_clips_that_crashed(shared_dir, tmp_path, name):
    source = shared_dir / "inputs" / name
    with (
        open_reader(source) as reader,
        open_writer(tmp_path / "out.mp4", source=reader.info) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    with open_reader(tmp_path / "out.mp4") as reader:
        assert sum(1 for _ in reader) == writer.num_written > MAX_SLOTS


# A second each or less.
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv422p10le"])
def test_conversion_of_every_width_stays_in_the_padding(pix_fmt, dtype):
    assert run_sizes("convert", pix_fmt, dtype) == (0, "1100x2")


def test_the_page_behind_those_cannot_be_read():
    status, reached = run_sizes("guard")
    assert reached == "0x0"
    assert status in (-signal.SIGSEGV, -signal.SIGBUS)


# On two shared cores: libx264 92 to 122 s, the others 5 to 13 s each.
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("encoder", "every"),
    [("libx264", 1), ("libx265", 23), ("libsvtav1", 8), ("libvpx-vp9", 23), ("prores_ks", 47),
     ("ffv1", 23)],
)  # fmt: skip
def test_every_width_and_height(encoder, every):
    sizes = list(critical_sizes())
    assert {w for w, _ in sizes} >= set(range(64, 1101)) <= {h for _, h in sizes}
    width, height = sizes[::every][-1]
    assert run_sizes("encode", encoder, str(every)) == (0, f"{width}x{height}")
