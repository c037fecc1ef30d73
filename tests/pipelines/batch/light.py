"""Stages that import nothing and do what the name of their clip says; workers start in a second."""

from __future__ import annotations

import os
import signal
import time
from typing import Any


class LightStages:
    """``run`` returns the task, but for clips whose name is a way to fail."""

    device = "cpu"
    num_expected = None
    beats = 0

    def __init__(self, settings: dict[str, Any]) -> None:
        match settings.get("broken"):
            case "raise":
                raise ValueError("weights are missing")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
        self.frames_done = 0

    def run(self, task: dict[str, Any]) -> dict[str, Any]:
        match task["name"]:
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
        return {**task, "pid": os.getpid(), "arenas": os.environ.get("MALLOC_ARENA_MAX")}
