"""The one training loop: counted in images, exact resume, EMA, parallel workers, sample sheets.

A task (training.gan, training.feature_style) holds modules and optimisers and knows one step; the
loop feeds it batches, averages gradients over workers, keeps moving averages, writes log lines,
checkpoints and sheets. On a CPU, threads of OpenMP wait for each other on busy cores
(docs/REFERENCES.md, "Figures from before the repository"), hence ``workers`` of one thread each.

All randomness derives from (seed, rank, images seen), so a resumed run repeats the same steps.
Where a batch does not fit into memory it is halved, and twice as many are accumulated: the step has
the same images. Where memory ends after weights have changed, so does the run. The log begins with
the networks that judge (training.run_log). No trainer imports av, decord, dlib, lpips or ray, which
bare GPU machines lack.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from training.batches import FLIP_68, Batch, StepBatches, make_batch, step_randomness
from training.compute import Compute
from training.data import FaceArrays
from training.group import (
    OutOfMemoryElsewhere,
    agree_on_memory,
    average_gradients,
    current_rank,
    mean_over_workers,
)
from training.loop_config import LoopConfig, learning_rate_factor
from training.run_log import RunLog, RunningLine
from training.weights import WEIGHTS_FILE, write_weights
from vidinv.errors import UsageError
from vidinv.files import atomic_file

__all__ = [
    "FLIP_68",
    "Batch",
    "GradientAverage",
    "Loop",
    "LoopConfig",
    "StepPart",
    "TrainingTask",
    "average_gradients",
    "learning_rate_factor",
    "make_batch",
    "mean_over_workers",
    "save_sheet",
]

RECALIBRATION_FACES = 512


@dataclass(frozen=True)
class StepPart:
    """Which batch of a step that is: gradients add up over ``count`` of them.

    Attributes:
        index: from 0; the first one forgets the last step's gradients, the last one optimises.
    """

    index: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.index == 0

    @property
    def is_last(self) -> bool:
        return self.index == self.count - 1


class TrainingTask(Protocol):
    """What a trainer gives to the loop."""

    modules: dict[str, nn.Module]

    @property
    def averaged(self) -> tuple[str, ...]:
        """Names of the modules that moving averages are kept of."""
        ...

    optimizers: dict[str, torch.optim.Optimizer]
    networks: dict[str, str]  # what judges -> name of the network that serves as it
    start: str  # where the first weights came from, and which parts began anew
    resolution: int  # of the pictures
    compute: Compute  # where its modules are
    part: StepPart  # set before each ``step``

    def initialise(self, path: Path) -> None:
        """Take over weights (training.weights); ``start`` then says from where."""
        ...

    def step(self, batch: Batch, number: int, average: GradientAverage) -> dict[str, Tensor]:
        """Optimisation step ``number`` (from 0, also after a resume); returns scalars to log.

        ``batch`` is on the task's device, and the ``part`` of the step that it is.
        """
        ...

    def forward(self, modules: dict[str, nn.Module], batch: Batch) -> None:
        """Run the given modules on a batch, for batch norm to see their activations."""
        ...

    def evaluate(
        self, ema: dict[str, nn.Module], batch: Batch
    ) -> tuple[dict[str, float], list[Tensor]]:
        """Metrics of the averaged modules, and rows ``[N, 3, R, R]`` of a sample sheet."""
        ...


GradientAverage = Callable[[Iterable[nn.Parameter]], None]


class Loop:
    """Runs a task in one worker process; rank 0 writes."""

    def __init__(
        self, task: TrainingTask, data: FaceArrays, config: LoopConfig, folder: Path
    ) -> None:
        self.task, self.data, self.config, self.folder = task, data, config, folder
        self.log = RunLog(folder)
        self.line = RunningLine(config.total_images)
        self.rank = current_rank()
        self.images_seen = 0
        self.halvings = 0  # of the batch, for want of memory
        self.has_changed_weights = False  # in the step that is being taken
        self.seconds = 0.0
        self.sums: dict[str, Tensor] = {}  # of the steps since the last log line
        self.count = 0
        self._clock = time.monotonic(), 0  # when the last line was written, and its images
        self.base_rates = {
            name: [group["lr"] for group in optimizer.param_groups]
            for name, optimizer in task.optimizers.items()
        }
        self.ema = {
            name: copy.deepcopy(task.modules[name]).eval().requires_grad_(False)
            for name in task.averaged
        }

    @property
    def device(self) -> torch.device:
        return self.task.compute.device

    def run(self) -> None:
        """Train until ``total_images``; checkpoints make it safe to stop at any time."""
        per_step = self.config.images_per_step
        if self.rank == 0 and not self.images_seen:
            self.log.begin({"networks": self.task.networks, "start": self.task.start})
        self._clock = time.monotonic(), self.images_seen
        self.line.start(self.images_seen)
        steps = range(self.images_seen // per_step, -(-self.config.total_images // per_step))
        batches = StepBatches(self.data, self.config, self.rank).iterate(steps, self.device)
        for number, batch in zip(steps, batches, strict=True):
            for name, value in self.step(number, batch).items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            self.count += 1
            before, self.images_seen = self.images_seen, (number + 1) * per_step
            if self.rank == 0:
                self._write(before)
        if self.rank == 0:
            self._checkpoint()
            self.line.end()

    def step(self, number: int, batch: Batch) -> dict[str, Tensor]:
        """One step of all workers: float64 means of what the task logs."""
        factor = learning_rate_factor(self.images_seen, self.config)
        for name, optimizer in self.task.optimizers.items():
            for group, base in zip(optimizer.param_groups, self.base_rates[name], strict=True):
                group["lr"] = base * factor
        while (metrics := self._attempt(number, batch)) is None:
            self._halve_batch()
        self._update_ema()
        return metrics

    def _attempt(self, number: int, batch: Batch) -> dict[str, Tensor] | None:
        """A step; None where a worker ran out of memory in it before any weights changed.

        Raises:
            UsageError: it ran out afterwards: a second attempt would apply the first part twice.
        """
        self.has_changed_weights = False
        torch.manual_seed(step_randomness(self.config, self.rank, number)[0])
        count = self.config.accumulate << self.halvings
        sums: dict[str, Tensor] = {}
        try:
            for index, part in enumerate(batch.split(count)):
                self.task.part = StepPart(index, count)
                for name, value in self.task.step(part, number, self._average).items():
                    sums[name] = sums.get(name, 0.0) + value.detach().double() / count
            agree_on_memory()
        except torch.OutOfMemoryError as error:
            if not isinstance(error, OutOfMemoryElsewhere):
                agree_on_memory(ran_out=True)
            if not self.has_changed_weights:
                return None
            size = self.config.batch >> self.halvings
            raise UsageError(
                f"out of memory after a part of a step changed weights (batch {size}): lower "
                "loop.batch and raise loop.accumulate as much; --resume then goes on from the last "
                "checkpoint"
            ) from None
        return sums

    def _average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Just before an optimizer steps: from here on the step cannot be taken anew."""
        average_gradients(parameters)
        self.has_changed_weights = True

    def _halve_batch(self) -> None:
        """Half as many images at a time, twice as many times: the step stays the same.

        No weights have changed. What the failed attempt did to running means stays: statistics of
        batch norm, and, the same in all workers, directions of edits and the adversary's balance.
        They are means over batches, and a step that is divided has more of these anyway.

        Raises:
            UsageError: the batch cannot be halved.
        """
        batch = self.config.batch >> self.halvings
        if batch % (2 * self.data.window):
            raise UsageError(f"out of memory, and a batch of {batch} cannot be halved")
        self.halvings += 1
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.rank == 0:
            accumulate = self.config.accumulate << self.halvings
            said = f"out of memory: batch {batch // 2} instead of {batch}, accumulate {accumulate}"
            self.log.append({"note": said, "images": self.images_seen})
            self.line.say(said)

    @torch.no_grad()
    def _update_ema(self) -> None:
        # A short half-life at first, or the average would remember the initial weights.
        half_life = min(self.config.ema_images, max(self.images_seen * 0.1, 1.0))
        keep = 0.5 ** (self.config.images_per_step / half_life)
        for name, averaged in self.ema.items():
            module = self.task.modules[name]
            source = dict(module.named_parameters())
            for key, parameter in averaged.named_parameters():
                parameter.lerp_(source[key], 1 - keep)

    def _write(self, before: int) -> None:
        """After a step: what is due of log and checkpoint."""
        if logged := self._crossed(before, self.config.log_images):
            self._log()
        if self._crossed(before, self.config.checkpoint_images):
            self._checkpoint()
        self.line.show(self.images_seen, logged=logged)

    def _crossed(self, before: int, interval: int) -> bool:
        return before // interval != self.images_seen // interval

    def _log(self) -> None:
        """One line: means since the last one, and the speed of this process since then."""
        then, images = self._clock
        self._clock = time.monotonic(), self.images_seen
        elapsed = self._clock[0] - then
        self.seconds += elapsed
        line: dict[str, Any] = {k: round(float(v) / self.count, 5) for k, v in self.sums.items()}
        line |= {"images": self.images_seen, "minutes": round(self.seconds / 60, 2)}
        line["images_per_second"] = round((self.images_seen - images) / elapsed, 2)
        self.log.append(line)
        self.sums, self.count = {}, 0

    def _checkpoint(self) -> None:
        self.recalibrate()
        self._evaluate()
        self.save()

    def recalibrate(self) -> None:
        """Estimate the batch-norm statistics of the averaged modules anew.

        Averaged weights do not fit the running statistics of the raw ones: with those, G(w) of our
        autoencoder lost 0.9 dB (docs/LOG.md).
        """
        rng = np.random.default_rng(self.config.seed)
        faces = self.data.train_indices
        chosen = rng.choice(faces, min(RECALIBRATION_FACES, len(faces)), replace=False)
        any_norms = False
        for module in self.ema.values():
            norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # cumulative mean
            module.train(bool(norms))
            any_norms = any_norms or bool(norms)
        if not any_norms:
            return
        for part in np.array_split(chosen, -(-len(chosen) // 32)):
            with torch.no_grad():
                self.task.forward(self.ema, make_batch(self.data, part).to(self.device))
        for module in self.ema.values():
            module.eval()

    def _evaluate(self) -> None:
        held_out = self.data.val_indices
        faces = held_out[:: max(1, len(held_out) // 64)][:64]
        metrics, rows = self.task.evaluate(self.ema, make_batch(self.data, faces).to(self.device))
        self.log.append(
            {"val": {k: round(v, 4) for k, v in metrics.items()}, "images": self.images_seen}
        )
        sheet = self.folder / f"sheet_{self.images_seen:08d}.png"
        save_sheet(rows, sheet)
        self.line.sheet = str(sheet)

    def save(self) -> None:
        """Write ``weights.safetensors`` (training.weights) and ``latest.pt``, each atomically."""
        modules = {name: m.state_dict() for name, m in self.task.modules.items()}
        ema = {name: m.state_dict() for name, m in self.ema.items()}
        write_weights(self.folder / WEIGHTS_FILE, {**modules, **ema}, self.images_seen)
        state = {
            "images_seen": self.images_seen,
            "halvings": self.halvings,
            "seconds": self.seconds,
            "sums": {name: float(value) for name, value in self.sums.items()},
            "count": self.count,
            "networks": self.task.networks,
            "modules": modules,
            "ema": ema,
            "optimizers": {name: o.state_dict() for name, o in self.task.optimizers.items()},
        }
        with atomic_file(self.folder / "latest.pt") as temporary:
            torch.save(state, temporary)

    def resume(self) -> bool:
        """Continue from ``latest.pt`` when it is there; log lines after it are made again.

        Raises:
            UsageError: other networks judged this run so far.
        """
        path = self.folder / "latest.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True, map_location="cpu")
        if (served := state["networks"]) != self.task.networks:
            raise UsageError(
                f"{self.folder}: this run was judged by {served}; here are {self.task.networks}"
            )
        self.images_seen, self.seconds = state["images_seen"], state["seconds"]
        self.halvings = state.get("halvings", 0)
        self.sums = {k: torch.tensor(v, dtype=torch.float64) for k, v in state["sums"].items()}
        self.sums = {name: value.to(self.device) for name, value in self.sums.items()}
        self.count = state["count"]
        for name, module in self.task.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, module in self.ema.items():
            module.load_state_dict(state["ema"][name])
        for name, optimizer in self.task.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        if self.rank == 0:
            self.log.forget_after(self.images_seen)
        return True


def save_sheet(rows: list[Tensor], path: Path) -> None:
    """Write rows of faces ``[N, 3, R, R]`` as one PNG, the first 16 of each, two blocks of 8."""
    side = rows[0].shape[-1]
    blocks = []
    for start in (0, 8):
        for row in rows:
            blocks.append(torch.cat(list(row[start : start + 8]), dim=-1))
    image = torch.cat(blocks, dim=-2).add(1).mul(127.5).clamp(0, 255).byte()
    assert image.shape[-1] == 8 * side
    Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy()).save(path)
