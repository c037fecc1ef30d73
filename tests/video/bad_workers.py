"""Decoding and encoding programs that go wrong, for tests of the watchdog."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from vidinv.video.info import VideoInfo
from vidinv.video.isolation import Channel, FrameRing


def main() -> None:
    """Hang before anything is said."""
    Channel().receive()
    time.sleep(600)


def crash_after_two_frames() -> None:
    channel = Channel()
    request = channel.receive()
    info = VideoInfo.from_scratch(width=4, height=4, rate=25)
    ring = FrameRing(request["ring_fd"])
    ring.map(height=4, width=4, dtype="u1")
    channel.send({"info": info.to_json()})
    for number in range(2):
        ring.write(number, np.zeros((4, 4, 3), np.uint8))
        channel.send({"pts": number, "duration": 1})
    os.kill(os.getpid(), signal.SIGABRT)


def announce_a_frame_unwritten() -> None:
    channel = Channel()
    channel.receive()
    info = VideoInfo.from_scratch(width=4, height=4, rate=25)
    channel.send({"info": info.to_json()})
    channel.send({"pts": 0, "duration": 1})
    channel.receive()
