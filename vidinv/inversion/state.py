"""What a method has learned of one face track: named tensors, found again by their content.

A state is fitted once per track, on a sample of its frames, and shared by all segments of the
track. Its file is named by its digest, so that a worker that is told the digest loads the very
state that the others use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidinv.arrays import as_decode_error, read_arrays, write_arrays
from vidinv.errors import DecodeError


@dataclass(frozen=True, eq=False)
class TrackState:
    """A fitted state; two with the same digest are the same.

    Attributes:
        method: name of the method that made it.
        tensors: on the CPU, float32 or as the method keeps them.
        facts: plain numbers and texts about it; ``"notes"``: a list of lines for people.
    """

    method: str
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Hash of all that is in it, 32 hex digits."""
        whole = hashlib.sha256(json.dumps([self.method, self.facts], sort_keys=True).encode())
        for name, tensor in sorted(self.tensors.items()):
            array = tensor.detach().cpu().contiguous().numpy()
            whole.update(f"{name} {array.dtype} {array.shape}".encode())
            whole.update(array.tobytes())
        return whole.hexdigest()[:32]

    @property
    def notes(self) -> list[str]:
        """What a person should know of it."""
        return list(self.facts.get("notes", ()))

    def save(self, folder: Path) -> Path:
        """Write it under its digest; it appears when it is complete."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: t.detach().cpu().numpy() for name, t in self.tensors.items()}
        write_arrays(state_path(folder, self.digest), arrays, self._about())
        return state_path(folder, self.digest)

    def _about(self) -> dict[str, Any]:
        return {"method": self.method, "facts": dict(self.facts)}

    @classmethod
    def load(cls, folder: Path, digest: str) -> TrackState:
        """The state with this digest.

        Raises:
            FileNotFoundError: there is none.
            DecodeError: it is not as it was written.
        """
        path = state_path(folder, digest)
        arrays, about = read_arrays(path)
        with as_decode_error(path):
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            state = cls(about["method"], tensors, about["facts"])
        if state.digest != digest:
            raise DecodeError(f"{path} holds another state than its name says")
        return state


def distinct_states(states: Mapping[int, TrackState]) -> list[TrackState]:
    """Each once, of those by track: tracks of one person share theirs."""
    return list({state.digest: state for state in states.values()}.values())


def state_path(folder: Path, digest: str) -> Path:
    """The file of a state."""
    return folder / f"{digest}.state.safetensors"
