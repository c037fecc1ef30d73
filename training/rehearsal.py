"""``--dry-run``: three steps of a run that nothing is kept of, and what the run would take."""

from __future__ import annotations

import math
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch

from training.batches import StepBatches
from training.data import FaceArrays
from training.loop import Loop, TrainingTask
from training.loop_config import LoopConfig
from training.run_log import duration

# A step past every ``start_images``, and at once one of every interval up to 16 (of regularisers,
# of balances): all acts in it that acts now and then.
FULL_STEP = math.lcm(*range(1, 17))
# The one before sets up what the others find there; nothing acts in the last one but what always
# does.
STEPS = range(FULL_STEP - 1, FULL_STEP + 2)


def rehearse(task: TrainingTask, data: FaceArrays, config: LoopConfig, out: Path) -> list[str]:
    """Take three steps with the task, which serves for nothing else then.

    Args:
        out: the run's folder, which is not touched.

    Returns:
        Lines for people. Speed and time are those of a step in which nothing acts but what always
        does: on one worker, as if the others did not slow it down.

    Raises:
        UsageError: memory does not suffice.
    """
    seconds = []
    with tempfile.TemporaryDirectory() as folder:  # for a note that the batch was halved
        loop = Loop(task, data, config, Path(folder))
        batches = StepBatches(data, config, rank=0).iterate(STEPS, loop.device)
        for number, batch in zip(STEPS, batches, strict=True):
            begun = time.monotonic()
            loop.step(number, batch)
            if loop.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.monotonic() - begun)
    speed = config.images_per_step / seconds[-1]
    batch_size, accumulate = config.batch >> loop.halvings, config.accumulate << loop.halvings
    first_sheet = -(-min(config.checkpoint_images, config.total_images) // config.images_per_step)
    sheet = out / f"sheet_{first_sheet * config.images_per_step:08d}.png"
    return [
        f"networks that judge: {', '.join(f'{k}: {v}' for k, v in task.networks.items())}",
        f"start: {task.start}",
        f"parameters: {_parameters(task)}",
        f"data: {len(data.train_indices)} faces to learn from, {len(data.val_indices)} held out",
        f"step: {config.images_per_step} images ({config.workers} workers, batch {batch_size}, "
        f"accumulate {accumulate}) on {loop.device}, networks in {config.precision}",
        f"speed: {speed:.1f} images/s, {duration(config.total_images / speed)} in all, without "
        "checkpoints",
        f"a step: {seconds[-1]:.2f} s; one with all that acts now and then: {seconds[1]:.2f} s",
        f"memory: {_memory_gb(loop.device):.1f} GB a worker",
        f"first sheet: {sheet}",
    ]


def _parameters(task: TrainingTask) -> str:
    learning = {
        id(p)
        for optimizer in task.optimizers.values()
        for group in optimizer.param_groups
        for p in group["params"]
    }
    counts = {
        name: sum(p.numel() for p in module.parameters() if id(p) in learning)
        for name, module in task.modules.items()
    }
    return ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items() if count)


def _memory_gb(device: torch.device) -> float:
    """The most that this process, or the GPU for it, has held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak * 1024 / 1e9
