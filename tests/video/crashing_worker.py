"""A decoding program that aborts after two frames, as FFmpeg may on a damaged file."""

from tests.video.bad_workers import crash_after_two_frames as main

__all__ = ["main"]
