"""A decoding program that announces a frame and does not write it into the shared memory."""

from tests.video.bad_workers import announce_a_frame_unwritten as main

__all__ = ["main"]
