"""Short runs of made-up faces, and runs that are killed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from training.judges import JudgesConfig
from training.loop import Loop, LoopConfig

# Log lines after every third step, checkpoints after every fourth.
LOOP = LoopConfig(
    total_images=64, batch=8, workers=1, warmup_images=8, decay_images=16, log_images=24,
    checkpoint_images=32,
)  # fmt: skip
TIMES = ("minutes", "images_per_second")
PIXELS_ALONE = JudgesConfig(perceptual="none", identity_weight=0.0, adversary=None)


def parameters(loop: Loop) -> torch.Tensor:
    modules = [*loop.task.modules.values(), *loop.ema.values()]
    return torch.cat([p.detach().flatten() for m in modules for p in m.parameters()])


class Killed(Exception):
    pass


def kill_at(loop: Loop, step: int) -> None:
    """The run ends in this step, as a signal would end it, whatever was logged or saved before."""
    take_step = loop.task.step

    def step_or_die(batch, number, average):
        if number == step:
            raise Killed
        return take_step(batch, number, average)

    loop.task.step = step_or_die
    with pytest.raises(Killed):
        loop.run()


def losses(folder) -> list[dict[str, float]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def check_resumes_exactly(make_loop: Callable[[str], Loop]) -> tuple[Loop, Loop]:
    """A run that was killed in step 6 and went on ends as one that was not; both are returned.

    Args:
        make_loop: by the name of the run's folder, of 56 images.
    """
    whole = make_loop("whole")
    whole.run()
    kill_at(make_loop("parts"), 6)
    resumed = make_loop("parts")
    assert resumed.resume()
    assert resumed.images_seen == 32
    resumed.run()
    assert torch.equal(parameters(resumed), parameters(whole))
    assert losses(resumed.folder) == losses(whole.folder)
    return resumed, whole
