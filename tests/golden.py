"""Weights and inputs of golden vectors, rebuilt from their rule (golden/README.md beside them).

They are in ../shared/golden, or in the folder that VIDINV_GOLDEN names.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch


def _normal(salted_key: str, shape: list[int]) -> np.ndarray:
    rng = np.random.RandomState(zlib.crc32(salted_key.encode()) & 0xFFFFFFFF)
    return np.asarray(rng.standard_normal(shape)).astype(np.float32)


RULES: dict[str, Any] = {
    "unit": lambda x: x,
    "tenth": lambda x: np.float32(0.1) * x,
    "one_plus_tenth": lambda x: np.float32(1) + np.float32(0.1) * x,
    "var": lambda x: np.float32(0.5) + np.abs(x),
    "prelu": lambda x: np.float32(0.25) + np.float32(0.05) * x,
    "mapping_weight": lambda x: np.float32(100) * x,
    "mapping_bias": lambda x: np.float32(10) * x,
    "sg3_in_affine_weight": lambda x: np.float32(0.3) * x,
    "sg3_in_affine_bias": lambda x: np.array([1, 0, 0, 0], np.float32) + np.float32(0.1) * x,
}


def _fill(item: dict[str, Any], x: np.ndarray) -> np.ndarray:
    if item["rule"] == "zero":
        return np.zeros(item["shape"], np.int64)
    if item["rule"] == "fan_in":
        return x / np.float32(np.sqrt(item["fan_in"]))
    if item["rule"] == "fan_in_he":
        return x / np.float32(np.sqrt(item["fan_in"] / 2))
    return RULES[item["rule"]](x)


class GoldenCase:
    """One case: its weights, inputs and outputs, by name."""

    def __init__(self, folder: Path, name: str) -> None:
        self.description = json.loads((folder / f"{name}.json").read_text())
        self.arrays = np.load(folder / f"{name}.npz")
        self.salt = self.description["salt"]

    def state(self, network: str) -> dict[str, torch.Tensor]:
        entry = self.description["networks"][network]
        state = {}
        for item in entry["keys"]:
            key = item["key"]
            if item["rule"] == "keep":
                value = self.arrays[f"keep/{network}/{key}"]
            else:
                salted = self.salt + entry["seed_prefix"] + key
                value = _fill(item, _normal(salted, item["shape"]))
            state[key] = torch.from_numpy(np.array(value))
        return state

    def input(self, name: str) -> torch.Tensor:
        """The input with this last part of its name, as the case describes it."""
        inputs = self.description["inputs"].items()
        ((full, text),) = [(key, text) for key, text in inputs if key.split(".")[-1] == name]
        kind, _, shape = text.partition(" ")
        return getattr(self, kind)(full, json.loads(shape))

    def check(self, name: str, actual: torch.Tensor, *, as_name: str | None = None) -> None:
        """That an output is as recorded; ``as_name``: whose tolerance holds."""
        atol = self.atol(as_name or name)
        torch.testing.assert_close(actual, self.output(name), rtol=0, atol=atol)

    def latent(self, name: str, shape: list[int]) -> torch.Tensor:
        return torch.from_numpy(_normal(f"{self.salt}input:{name}", shape))

    def latent_of_key(self, key: str) -> torch.Tensor:
        """The number that the rule draws for a scalar weight."""
        return torch.from_numpy(_normal(f"{self.salt}{key}", []))

    def image(self, name: str, shape: list[int]) -> torch.Tensor:
        seed = zlib.crc32(f"{self.salt}input:{name}".encode()) & 0xFFFFFFFF
        rng = np.random.RandomState(seed)
        n, _, h, w = shape
        coarse = rng.uniform(-1, 1, (n, 3, h // 16, w // 16))
        fine = rng.uniform(-1, 1, shape)
        coarse = np.repeat(np.repeat(coarse, 16, axis=2), 16, axis=3)
        return torch.from_numpy((0.5 * coarse + 0.5 * fine).astype(np.float32))

    def output(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[f"out/{name}"])

    def atol(self, name: str) -> float:
        return self.description["suggested_atol"][name]


def golden_folder(shared: Path) -> Path:
    """Where the vectors are."""
    return Path(os.environ.get("VIDINV_GOLDEN") or shared / "golden")
