"""What a pack hands to the builder of a method: a generator to share, an entry, weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from vidinv.errors import PackError
from vidinv.generators.base import Generator
from vidinv.inversion.registry import find_method

if TYPE_CHECKING:
    from vidinv.inversion.base import Inverter
    from vidinv.packs.format import PackFiles

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class MethodParts:
    """For ``Method.build``.

    Attributes:
        generator: on ``device``; shared with others, so that nothing in it may be changed.
        files: of the pack.
        entry: what pack.json says of the method; empty where it has no weights.
    """

    generator: Generator
    files: PackFiles
    entry: Mapping[str, Any]
    device: torch.device

    def tensors(self) -> dict[str, Tensor]:
        """The method's weights."""
        return self.files.tensors(self.entry["file"])

    def config(self, cls: type[T]) -> T:
        """The method's configuration, as its dataclass; PackError for one that does not fit it."""
        return build_config(cls, self.entry.get("config", {}), self.files)

    def build_method(self, name: str) -> Inverter:
        """Another method of the pack, on the same generator and device."""
        entry = self.files.meta["methods"].get(name, {})
        return find_method(name).build(replace(self, entry=entry))

    def load(self, network: Network) -> Network:
        """Fill a network with the method's weights, on the device and without gradients."""
        return load_network(network, self.files, self.entry["file"]).to(self.device)


def build_config(cls: type[T], values: Mapping[str, Any], files: PackFiles) -> T:
    """A configuration of pack.json as its dataclass; PackError where it does not fit."""
    plain = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    try:
        return cls(**plain)
    except (TypeError, ValueError) as error:
        raise PackError(f"pack {files.meta['name']}: {cls.__name__}: {error}") from error


def load_network(network: Network, files: PackFiles, name: str) -> Network:
    """Fill a network from a file of the pack, in evaluation mode and without gradients."""
    try:
        network.load_state_dict(files.tensors(name))
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()
        raise PackError(
            f"{files.folder / name} does not fit the pack's configuration: {line}"
        ) from error
    network.to(memory_format=torch.channels_last)
    return network.eval().requires_grad_(False)
