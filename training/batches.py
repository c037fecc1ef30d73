"""What a step learns from: faces drawn by (seed, worker, images seen), read and augmented.

``StepBatches`` makes the batch of any step from its number alone, so a resumed run sees what it
would have seen, and processes that load ahead (``loop.loaders``) change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.data import WEIGHT_UNIT, FaceArrays
from training.loop_config import LoopConfig
from vidinv.errors import UsageError

# iBUG 68 points after mirroring the picture.
FLIP_68 = np.array(
    [
        *[*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31],
        *[45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40],
        *[54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65],
    ]
)
GAMMA = 2.2  # of display values, about: a stop is a factor of 2 of light
YAW = 3  # column of training.data.ATTRIBUTES whose sign mirroring changes


@dataclass
class Batch:
    """One step's data: images ``[N, 3, R, R]`` in [-1, 1], pixel weights, targets, landmarks."""

    images: Tensor
    weights: Tensor
    targets: Tensor
    landmarks: Tensor

    def to(self, device: torch.device) -> Batch:
        """On a device; itself where it is there."""
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self._tensors()))

    def split(self, parts: int) -> list[Batch]:
        """In so many parts of one size."""
        if parts == 1:
            return [self]
        return [
            Batch(*part) for part in zip(*(t.chunk(parts) for t in self._tensors()), strict=True)
        ]

    def pin_memory(self) -> Batch:
        """In memory that a GPU reads by itself (asked for by DataLoader)."""
        return Batch(*(tensor.pin_memory() for tensor in self._tensors()))

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]


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


class StepBatches(Dataset[Batch]):
    """The batches of one worker's steps, by the step's number."""

    def __init__(self, data: FaceArrays, config: LoopConfig, rank: int) -> None:
        self.data, self.config, self.rank = data, config, rank
        if config.batch % data.window:
            raise UsageError(
                f"loop.batch {config.batch} is not a multiple of the data's windows of "
                f"{data.window} frames"
            )
        self._starts = data.train_indices[:: data.window]

    def __getitem__(self, number: int) -> Batch:
        config, window = self.config, self.data.window
        _, rng = step_randomness(config, self.rank, number)
        count = config.batch * config.accumulate // window
        starts = rng.choice(self._starts, count, replace=count > len(self._starts))
        indices = (starts[:, None] + np.arange(window)).ravel()
        batch = make_batch(self.data, indices, (rng.random(count) < 0.5).repeat(window))
        if config.exposure:
            stops = rng.uniform(-config.exposure, config.exposure, count).repeat(window)
            batch.images = exposed(batch.images, torch.from_numpy(stops).float(), window)
        return batch

    def iterate(self, numbers: range, device: torch.device) -> Iterator[Batch]:
        """The batches of steps in order, on the device."""
        if not self.config.loaders:
            for number in numbers:
                yield self[number].to(device)
            return
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=numbers,
            num_workers=self.config.loaders,
            multiprocessing_context="fork",  # the arrays are mapped once, and never copied
            pin_memory=device.type == "cuda",
        )
        for batch in loader:
            yield batch.to(device)


def exposed(images_N3RR: Tensor, stops_N: Tensor, window: int = 1) -> Tensor:
    """Pictures in [-1, 1] brighter by ``stops``, each window of frames by the same.

    All channels are scaled alike, as light is, and no further than the brightest value of a window
    allows: hues stay, and nothing clips.
    """
    gains = 2.0 ** (stops_N / GAMMA)
    brightest = (images_N3RR.flatten(1).amax(dim=1) + 1) / 2
    brightest = brightest.unflatten(0, (-1, window)).amax(dim=1).repeat_interleave(window)
    gains = gains.minimum((1 / brightest.clamp(min=1e-3)).clamp(min=1.0))
    return (images_N3RR + 1) * gains[:, None, None, None] - 1


def step_randomness(config: LoopConfig, rank: int, number: int) -> tuple[int, np.random.Generator]:
    """torch's seed in a step, and where its data is drawn from."""
    rng = np.random.default_rng([config.seed, rank, number * config.images_per_step])
    return int(rng.integers(2**62)), rng
