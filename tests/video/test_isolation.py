"""Child processes where the standard streams are closed, and frames that nobody wrote."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.video.clips import make_clip
from vidinv.errors import DecodeError
from vidinv.video import open_reader
from vidinv.video.isolation import FIRST_FREE_FD, FrameMissing, FrameRing

# Closes descriptors as a service manager may, reads a clip and writes it again.
PROGRAM = """
import os, sys
for fd in map(int, sys.argv[1].split(",")):
    os.close(fd)
import numpy as np
from vidinv.video import open_reader, open_writer
with open_reader(sys.argv[2]) as reader, open_writer(sys.argv[3], source=reader.info) as writer:
    lowest = min(reader._child.ring.fd, writer._ring.fd)
    means = []
    for frame in reader:
        writer.write(frame)
        means.append(frame.image.mean())
with open_reader(sys.argv[3]) as reader:
    again = [frame.image.mean() for frame in reader]
with open(sys.argv[4], "w") as told:
    print(lowest, *(round(m) for m in (min(means), max(means), min(again))), file=told)
"""


@pytest.mark.parametrize("closed", ["0", "1", "2", "0,1", "0,2", "1,2", "0,1,2"])
def test_frames_arrive_where_standard_streams_are_closed(tmp_path, closed):
    source = make_clip(tmp_path / "a.mp4", num_frames=12)
    told = tmp_path / "told"
    command = [sys.executable, "-c", PROGRAM, closed, source, tmp_path / "b.mp4", told]
    subprocess.run(list(map(str, command)), check=True, timeout=60)
    lowest_fd, least, most, again = map(int, told.read_text().split())
    assert lowest_fd >= FIRST_FREE_FD
    assert 0 < least <= most
    assert abs(again - least) < 5


def test_standard_streams_that_were_closed_stay_so(tmp_path):
    program = (
        "import os\nos.close(0)\n"
        "from vidinv.video.isolation import standard_descriptors_taken\n"
        "with standard_descriptors_taken(): os.fstat(0)\n"
        "assert os.open(os.devnull, os.O_RDONLY) == 0\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_frame_that_was_not_written_is_an_error(tmp_path):
    path = make_clip(tmp_path / "a.mp4", num_frames=2)
    with (
        pytest.raises(DecodeError, match=r"a\.mp4: the decoder failed \(frame 0 did not reach"),
        open_reader(path, worker="tests.video.forgetful_worker") as reader,
    ):
        list(reader)


def test_a_slot_holds_the_frame_that_was_written_last():
    ring = FrameRing()
    ring.map(height=4, width=5, dtype="uint8")
    image = np.full((4, 5, 3), 7, np.uint8)
    ring.write(0, image)
    other = FrameRing(os.dup(ring.fd))
    other.map(height=4, width=5, dtype="uint8")
    np.testing.assert_array_equal(other.read(0), image)
    for number in (1, ring.num_slots):
        with pytest.raises(FrameMissing):
            other.read(number)
    ring.close()
    other.close()
