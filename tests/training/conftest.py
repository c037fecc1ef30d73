"""Fixtures of the training tests: made-up faces."""

from __future__ import annotations

import numpy as np
import pytest

import training.loop
from training.data import ATTRIBUTES, FaceArrays


@pytest.fixture(scope="session")
def faces() -> FaceArrays:
    """640 pictures of coloured squares at 32 px, with random targets and landmarks."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (640, 3, 4, 4), dtype=np.uint8)
    return FaceArrays(
        images_M3RR=coarse.repeat(8, axis=2).repeat(8, axis=3),
        weights_M=np.full((640, 32, 32), 64, np.uint8),
        targets_MA=rng.standard_normal((640, len(ATTRIBUTES))).astype(np.float32),
        landmarks_M=rng.uniform(0, 127, (640, 68, 2)).astype(np.float32),
        is_train_M=np.arange(640) < 560,
    )


@pytest.fixture
def quick_checkpoints(monkeypatch):
    monkeypatch.setattr(training.loop, "RECALIBRATION_FACES", 32)
