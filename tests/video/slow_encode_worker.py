"""A copying program on a slow machine."""

from tests.video.slow_worker import encode as main

__all__ = ["main"]
