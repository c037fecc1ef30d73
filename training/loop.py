"""The one training loop: counted in images, exact resume, EMA, parallel workers, sample sheets.

A task (training.gan, training.feature_style) holds modules and optimisers and knows one step; the
loop feeds it batches, averages gradients over workers, keeps moving averages, writes log lines,
checkpoints and sheets. Threads of OpenMP wait for each other on busy cores (docs/REFERENCES.md,
"Figures from before the repository"), hence ``workers`` of one thread each.

All randomness derives from (seed, rank, images seen), so a resumed run repeats the same steps.
Its log, ``log.jsonl``, begins with the networks that judge. Needs torch, numpy, safetensors and
Pillow alone.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

from training.data import WEIGHT_UNIT, FaceArrays
from training.weights import WEIGHTS_FILE, write_weights
from vidinv.errors import UsageError
from vidinv.files import atomic_file

# iBUG 68 points after mirroring the picture.
FLIP_68 = np.array(
    [
        *[*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31],
        *[45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40],
        *[54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65],
    ]
)
RECALIBRATION_FACES = 512
YAW = 3  # column of training.data.ATTRIBUTES whose sign mirroring changes


@dataclass(frozen=True)
class LoopConfig:
    """How long and how often; every interval is in images.

    Attributes:
        batch: images a step and worker.
        warmup_images: linear rise of the learning rate.
        ema_images: half-life of the moving average.
        decay_images: length of the final cosine decay to 5 % of the learning rate.
    """

    total_images: int
    batch: int = 16
    workers: int = 2
    seed: int = 0
    warmup_images: int = 1000
    decay_images: int = 20_000
    ema_images: int = 3000
    log_images: int = 1024
    checkpoint_images: int = 6400


@dataclass
class Batch:
    """One step's data: images ``[N, 3, R, R]`` in [-1, 1], pixel weights, targets, landmarks."""

    images: Tensor
    weights: Tensor
    targets: Tensor
    landmarks: Tensor


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

    def initialise(self, path: Path) -> None:
        """Take over weights (training.weights); ``start`` then says from where."""
        ...

    def step(self, batch: Batch, number: int, average: GradientAverage) -> dict[str, Tensor]:
        """Optimisation step ``number`` (from 0, also after a resume); returns scalars to log."""
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


def make_batch(data: FaceArrays, indices: np.ndarray, flip: np.ndarray | None = None) -> Batch:
    """Read faces by index, mirrored where ``flip`` is set."""
    images = np.asarray(data.images_M3RR[indices])
    weights = np.asarray(data.weights_M[indices])
    targets, landmarks = data.targets_MA[indices].copy(), data.landmarks_M[indices].copy()
    if flip is not None:
        images, weights = images.copy(), weights.copy()
        images[flip] = images[flip][..., ::-1]
        weights[flip] = weights[flip][..., ::-1]
        targets[flip, YAW] *= -1
        landmarks[flip] = (np.array([127.0, 0]) + np.array([-1.0, 1]) * landmarks[flip])[:, FLIP_68]
    x = torch.from_numpy(np.ascontiguousarray(images)).float().div_(127.5).sub_(1)
    return Batch(
        x.contiguous(memory_format=torch.channels_last),
        torch.from_numpy(np.ascontiguousarray(weights)).float()[:, None] / WEIGHT_UNIT,
        torch.from_numpy(targets),
        torch.from_numpy(landmarks.astype(np.float32)) / 64.0 - 1.0,
    )


def learning_rate_factor(images_seen: int, config: LoopConfig) -> float:
    """Linear warm-up, constant, then a cosine decay to 0.05 over the last ``decay_images``."""
    warm = min(1.0, (images_seen + 1) / max(config.warmup_images, 1))
    into_decay = images_seen - (config.total_images - config.decay_images)
    if into_decay <= 0:
        return warm
    phase = min(into_decay / config.decay_images, 1.0)
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * phase)))


class Loop:
    """Runs a task in one worker process; rank 0 writes."""

    def __init__(
        self, task: TrainingTask, data: FaceArrays, config: LoopConfig, folder: Path
    ) -> None:
        self.task, self.data, self.config, self.folder = task, data, config, folder
        self.log_path = folder / "log.jsonl"
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.images_seen = 0
        self.seconds = 0.0
        self.sums: dict[str, float] = {}  # of the steps since the last log line
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

    def run(self) -> None:
        """Train until ``total_images``; checkpoints make it safe to stop at any time."""
        per_step = self.config.batch * self.config.workers
        if self.rank == 0 and not self.images_seen:
            self.log_path.unlink(missing_ok=True)  # of a run that ended before its first checkpoint
            self._append({"networks": self.task.networks, "start": self.task.start})
        self._clock = time.monotonic(), self.images_seen
        while self.images_seen < self.config.total_images:
            metrics = self._step(per_step)
            for name, value in metrics.items():
                self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
            self.count += 1
            before, self.images_seen = self.images_seen, self.images_seen + per_step
            if self.rank == 0 and self._crossed(before, self.config.log_images):
                self._log()
            if self.rank == 0 and self._crossed(before, self.config.checkpoint_images):
                self._checkpoint()
        if self.rank == 0:
            self._checkpoint()

    def _checkpoint(self) -> None:
        self.recalibrate()
        self._evaluate()
        self.save()

    def _step(self, per_step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.config.seed, self.rank, self.images_seen])
        torch.manual_seed(int(rng.integers(2**62)))
        indices = rng.choice(self.data.train_indices, self.config.batch, replace=False)
        batch = make_batch(self.data, indices, rng.random(self.config.batch) < 0.5)
        factor = learning_rate_factor(self.images_seen, self.config)
        for name, optimizer in self.task.optimizers.items():
            for group, base in zip(optimizer.param_groups, self.base_rates[name], strict=True):
                group["lr"] = base * factor
        metrics = self.task.step(batch, self.images_seen // per_step, average_gradients)
        self._update_ema(per_step)
        return metrics

    @torch.no_grad()
    def _update_ema(self, per_step: int) -> None:
        # A short half-life at first, or the average would remember the initial weights.
        half_life = min(self.config.ema_images, max(self.images_seen * 0.1, 1.0))
        keep = 0.5 ** (per_step / half_life)
        for name, averaged in self.ema.items():
            module = self.task.modules[name]
            source = dict(module.named_parameters())
            for key, parameter in averaged.named_parameters():
                parameter.lerp_(source[key], 1 - keep)

    def _crossed(self, before: int, interval: int) -> bool:
        return before // interval != self.images_seen // interval

    def _log(self) -> None:
        """One line: means since the last one, and the speed of this process since then."""
        then, images = self._clock
        self._clock = time.monotonic(), self.images_seen
        elapsed = self._clock[0] - then
        self.seconds += elapsed
        line: dict[str, Any] = {k: round(v / self.count, 5) for k, v in self.sums.items()}
        line |= {"images": self.images_seen, "minutes": round(self.seconds / 60, 2)}
        line["images_per_second"] = round((self.images_seen - images) / elapsed, 2)
        self._append(line)
        self.sums, self.count = {}, 0

    def _append(self, line: dict[str, Any]) -> None:
        with self.log_path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def recalibrate(self) -> None:
        """Estimate the batch-norm statistics of the averaged modules anew.

        Averaged weights do not fit the running statistics of the raw ones: with those, G(w) of our
        autoencoder lost 0.9 dB (docs/LOG.md).
        """
        rng = np.random.default_rng(self.config.seed)
        chosen = rng.choice(self.data.train_indices, RECALIBRATION_FACES, replace=False)
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
        for part in np.array_split(chosen, RECALIBRATION_FACES // 32):
            with torch.no_grad():
                self.task.forward(self.ema, make_batch(self.data, part))
        for module in self.ema.values():
            module.eval()

    def _evaluate(self) -> None:
        batch = make_batch(
            self.data, self.data.val_indices[:: len(self.data.val_indices) // 64][:64]
        )
        metrics, rows = self.task.evaluate(self.ema, batch)
        self._append(
            {"val": {k: round(v, 4) for k, v in metrics.items()}, "images": self.images_seen}
        )
        save_sheet(rows, self.folder / f"sheet_{self.images_seen:08d}.png")

    def save(self) -> None:
        """Write ``weights.safetensors`` (training.weights) and ``latest.pt``, each atomically."""
        modules = {name: m.state_dict() for name, m in self.task.modules.items()}
        ema = {name: m.state_dict() for name, m in self.ema.items()}
        write_weights(self.folder / WEIGHTS_FILE, {**modules, **ema}, self.images_seen)
        state = {
            "images_seen": self.images_seen,
            "seconds": self.seconds,
            "sums": self.sums,
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
        self.sums, self.count = state["sums"], state["count"]
        for name, module in self.task.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, module in self.ema.items():
            module.load_state_dict(state["ema"][name])
        for name, optimizer in self.task.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        if self.rank == 0 and self.log_path.exists():
            self._forget_later_lines()
        return True

    def _forget_later_lines(self) -> None:
        lines = self.log_path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line).get("images", 0) <= self.images_seen]
        with atomic_file(self.log_path) as temporary:
            temporary.write_text("".join(kept))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Mean of the gradients over workers, as one message; nothing with a single worker."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()


def mean_over_workers(value: Tensor) -> Tensor:
    """A tensor's mean over workers, the same in all of them; itself with a single worker."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def save_sheet(rows: list[Tensor], path: Path) -> None:
    """Write rows of faces ``[N, 3, R, R]`` as one PNG, the first 16 of each, two blocks of 8."""
    side = rows[0].shape[-1]
    blocks = []
    for start in (0, 8):
        for row in rows:
            blocks.append(torch.cat(list(row[start : start + 8]), dim=-1))
    image = torch.cat(blocks, dim=-2).add(1).mul(127.5).clamp(0, 255).byte()
    assert image.shape[-1] == 8 * side
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(path)
