"""NVIDIA's pickles (StyleGAN2-ADA, StyleGAN3): modules as state dicts, sizes from the tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vidinv.checkpoints.errors import CheckpointError
from vidinv.checkpoints.unpickle import Persistent, read_pickle

State = dict[str, Tensor]


def read_networks(path: Path) -> dict[str, State]:
    """State dicts of the networks in a file, by name (``"G"``, ``"D"``, ``"G_ema"``)."""
    content = read_pickle(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: a pickle of TensorFlow networks, or of none; convert it with NVIDIA's "
            "legacy.py first"
        )
    networks = {
        name: dict(_tensors(value, ""))
        for name, value in content.items()
        if isinstance(value, Persistent) and name in ("G", "D", "G_ema")
    }
    if not networks:
        raise CheckpointError(f"{path}: a pickle without G, D or G_ema")
    return networks


def _tensors(module: Persistent, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers as ``state_dict`` names them."""
    left_out = module.state.get("_non_persistent_buffers_set", set())
    for group in ("_parameters", "_buffers"):
        for name, value in _entries(module, group):
            if isinstance(value, Tensor) and name not in left_out:
                yield prefix + name, value
    for name, child in _entries(module, "_modules"):
        if isinstance(child, Persistent):
            yield from _tensors(child, f"{prefix}{name}.")


def _entries(module: Persistent, group: str) -> Iterator[tuple[str, Any]]:
    entries = module.state.get(group, {})
    if isinstance(entries, Mapping):
        yield from ((str(name), value) for name, value in entries.items())
