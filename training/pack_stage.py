"""Stages on a pack whose generator stands still: what the second phases of inversion start from.

HyperInverter (training.hyper) and ReGANIE (training.rectifier) come after another inversion. The
pack gives them generator, first phase and directions of edits; only their own networks learn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from training.feature_style import kept_change
from training.judged import JudgedTask
from training.judges import JudgesConfig
from training.loop import Batch, LoopConfig
from training.weights import by_module, read_weights, take_over
from vidinv.errors import UsageError
from vidinv.inversion import Inverter
from vidinv.packs import DEFAULT_PACK, load_pack
from vidinv.packs.format import PackFiles

SHOWN_EDIT = {"smile": 2.0}  # what validation measures and shows


@dataclass(frozen=True, kw_only=True)
class PackStageConfig:
    """One stage of training on a pack.

    Attributes:
        pack: its name or folder.
        init: weights to go on from: the folder of a run or of a pack with the method, or a file
            (training.weights).
    """

    loop: LoopConfig
    pack: str = DEFAULT_PACK
    init: str = ""
    learning_rate: float = 1e-3
    judges: JudgesConfig = field(default_factory=JudgesConfig)


class PackTask(JudgedTask, ABC):
    """What learns on a pack; ``modules`` has the networks of the method, named as in its file."""

    method: ClassVar[str]
    """Of ``vidinv.inversion.METHODS``, that it makes weights for."""

    def __init__(self, config: PackStageConfig) -> None:
        self.pack = load_pack(config.pack)
        super().__init__(config.loop, self.pack.resolution)
        self.generator = self.pack.generator_on(self.compute.device)
        self.directions = self.pack.directions()

    def initialise(self, path: Path) -> None:
        """Take over the method's weights; ``start`` then says what of them began anew.

        Raises:
            UsageError: there are none of this method, or they do not fit.
        """
        in_pack = (path / "pack.json").is_file()
        found = self._modules_of_pack(path) if in_pack else read_weights(path).modules
        anew = []
        if not found.keys() & (self.modules.keys() - {"adversary"}):
            raise UsageError(f"{path} has no weights of: {', '.join(sorted(self.modules))}")
        for name, module in self.modules.items():
            if take_over(module, found.get(name, {})):
                continue
            if name in found and name != "adversary":
                raise UsageError(f"{path}: {name} does not fit the configuration")
            anew.append(name)
        if self.judges.adversary is not None:
            self.judges.adversary.forget_balance()  # it was another stage's
        self.start = f"{path}; begun anew: {', '.join(sorted(anew)) or 'nothing'}"

    def _modules_of_pack(self, folder: Path) -> dict[str, dict[str, Tensor]]:
        """The method's weights by module: its file has one module's names, or names of modules."""
        files = PackFiles.open(folder)
        if (entry := files.meta["methods"].get(self.method)) is None:
            raise UsageError(f"{folder} has no weights of: {self.method}")
        tensors = files.tensors(entry["file"])
        if (found := by_module(tensors)).keys() & self.modules.keys():
            return found
        own = next(name for name in self.modules if name != "adversary")  # who judges comes later
        return {own: tensors}

    @torch.no_grad()
    def mean_latents(self) -> Tensor:
        """``[L, D]`` of the mapping's mean, which encoders start from."""
        z = torch.zeros(1, self.generator.z_dim, device=self.compute.device)
        return self.generator.broadcast(self.generator.mapping(z, truncation=0.0))[0]

    def first_inverter(self, name: str) -> Inverter:
        """A method of the pack where this stage computes.

        Raises:
            UsageError: it is fitted to face tracks.
        """
        inverter = self.pack.inverter(name, device=self.compute.device)
        if inverter.sample_frames:
            raise UsageError(f"{inverter.name} is fitted to tracks: no photograph has one")
        return inverter

    @abstractmethod
    def pack_entry(self) -> dict[str, Any]:
        """What pack.json says of the method, but for the file of its weights."""

    @abstractmethod
    def pack_tensors(self) -> dict[str, Tensor]:
        """The method's weights, as its file in a pack has them."""

    def measure_edit(
        self, edited: Tensor, before: Tensor, batch: Batch, *, plain: Tensor
    ) -> dict[str, float]:
        """Of the shown edit: sharpness, identity, and how much of the first phase's change is kept.

        Args:
            edited, before: the method's pictures with the edit and without.
            plain: what the edit changes in the first phase's picture.
        """
        measured = self.measure(edited, batch.images)
        shown = {f"{k}_edit": measured[k] for k in ("sharpness", "identity") if k in measured}
        return shown | {"kept_edit": kept_change(edited - before, plain, batch.weights)}

    def shown_edit(self, count: int) -> dict[str, Tensor]:
        """The edit that validation shows, where the pack has it: strengths ``[count]``."""
        there = sorted(SHOWN_EDIT.keys() & self.directions.by_name.keys())
        return {
            name: torch.full([count], SHOWN_EDIT[name], device=self.compute.device)
            for name in there
        }
