"""How a run goes: what every trainer's experiment file says under ``loop``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.compute import DeviceWish, Precision

MAX_EXPOSURE = 2.0  # stops: beyond, faces of photographs are black or white


@dataclass(frozen=True)
class LoopConfig:
    """How long, how often, where; every interval is in images.

    Attributes:
        batch: images that a worker computes together.
        accumulate: batches of a worker in a step, whose gradients are averaged.
        workers: processes that learn together, each on a core or a GPU.
        loaders: processes of each worker that read its data ahead; 0: it does so itself.
        exposure: pictures are drawn brighter or darker by up to so many stops; 0: as they are.
        device: where networks work; ``"auto"``: on a GPU where there is one.
        precision: of networks; losses are float32 (training.compute).
        warmup_images: linear rise of the learning rate.
        ema_images: half-life of the moving average.
        decay_images: length of the final cosine decay to 5 % of the learning rate.
    """

    total_images: int
    batch: int = 16
    accumulate: int = 1
    workers: int = 2
    loaders: int = 0
    exposure: float = 0.0
    device: DeviceWish = "auto"
    precision: Precision = "float32"
    seed: int = 0
    warmup_images: int = 1000
    decay_images: int = 20_000
    ema_images: int = 3000
    log_images: int = 1024
    checkpoint_images: int = 6400

    def __post_init__(self) -> None:
        if min(self.batch, self.accumulate, self.workers) < 1:
            raise ValueError("batch, accumulate and workers start at 1")
        if self.loaders < 0 or not 0 <= self.exposure <= MAX_EXPOSURE:
            raise ValueError(f"loaders start at 0, exposure is in 0..{MAX_EXPOSURE:g}")

    @property
    def images_per_step(self) -> int:
        """Of all workers."""
        return self.batch * self.accumulate * self.workers


def learning_rate_factor(images_seen: int, config: LoopConfig) -> float:
    """Linear warm-up, constant, then a cosine decay to 0.05 over the last ``decay_images``."""
    warm = min(1.0, (images_seen + 1) / max(config.warmup_images, 1))
    into_decay = images_seen - (config.total_images - config.decay_images)
    if into_decay <= 0:
        return warm
    phase = min(into_decay / config.decay_images, 1.0)
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * phase)))
