"""A runner that imports nothing and does what its task is called; workers start in a second."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class LightSettings:
    """``broken``: how the runner fails as it starts."""

    device: str = "cpu"
    broken: str = ""


@dataclass(frozen=True)
class LightTask:
    name: str


@dataclass(frozen=True)
class LightResult:
    name: str
    pid: int
    arenas: str | None


class LightRunner:
    """``run`` says who did the task, but for names that are a way to fail."""

    device = "cpu"
    num_expected = None
    beats = 0

    def __init__(self, settings: LightSettings) -> None:
        match settings.broken:
            case "raise":
                raise ValueError("weights are missing")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
        self.frames_done = 0

    def run(self, task: LightTask) -> LightResult:
        match task.name:
            case "hang":
                time.sleep(600)
            case "slow":  # longer than it may hang, but it moves
                for _ in range(40):
                    time.sleep(0.1)
                    self.frames_done += 1
            case "freeze":
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(600)  # the signal may be late
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise RuntimeError("a mistake of ours")
        self.frames_done += 7
        return LightResult(task.name, os.getpid(), os.environ.get("MALLOC_ARENA_MAX"))
