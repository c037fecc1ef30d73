"""A model pack ready for use: networks, directions and the crop they were trained on.

    pack = load_pack("faces-128")
    inverter = pack.inverter("fse", device="cpu")
    directions = pack.directions()

Packs are found by path, by name among the embedded ones, or in the folders of ``VIDINV_PACKS``
(separated as PATH is).
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from vidinv.editing.directions import Direction, Directions, read_direction
from vidinv.errors import PackError, UnknownNameError
from vidinv.generators.base import Generator, GeneratorConfig
from vidinv.generators.registry import FAMILIES, build_generator
from vidinv.inversion import METHODS, Inverter, find_method
from vidinv.inversion.parts import MethodParts, build_config, load_network
from vidinv.metrics.attributes import SmileMeasure
from vidinv.networks.registry import NETWORKS
from vidinv.packs.format import PackFiles

EMBEDDED = Path(__file__).parent / "default"
DEFAULT_PACK = "faces-128"


class Pack:
    """One opened pack; networks are built at the first use."""

    def __init__(self, files: PackFiles) -> None:
        self.files = files

    @property
    def name(self) -> str:
        return str(self.files.meta["name"])

    @property
    def folder(self) -> Path:
        return self.files.folder

    @property
    def meta(self) -> Mapping[str, Any]:
        return self.files.meta

    @property
    def alignment(self) -> str:
        """Name of the crop formula that the networks were trained on."""
        return str(self.meta["alignment"])

    @property
    def resolution(self) -> int:
        """R: side of the aligned faces in pixels."""
        return self.generator_config.resolution

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that work with it: those it has weights for, and those that need
        none.
        """
        return tuple(sorted(name for name in METHODS if self._has(name)))

    def _has(self, method: str) -> bool:
        return method in self.meta["methods"] or not find_method(method).needs_weights

    def inversion_digest(self, method: str) -> str:
        """Hash of what decides an inversion: crop, generator and the method's networks.

        Other directions leave it as it is: latents that were saved stay of use.
        """
        methods = self.meta["methods"]
        own = [methods[name] for name in self._phases(method) if methods.get(name)]
        entries = [self.meta["generator"], *own]
        files = [entry["file"] for entry in entries if "file" in entry]
        hashes = [self.meta["files"][file]["sha256"] for file in files]
        text = json.dumps([self.alignment, entries, hashes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def local_choices(self, method: str) -> Mapping[str, str]:
        """What a method chooses by what this machine has (``Inverter.local_choices``)."""
        choices: dict[str, str] = {}
        for name in reversed(self._phases(method)):
            config = self.meta["methods"].get(name, {}).get("config", {})
            found = find_method(name).local_choices(config, self.resolution).items()
            about = "" if name == method else f"{name}: "
            choices |= {about + what: choice for what, choice in found}
        return choices

    def _phases(self, method: str) -> list[str]:
        """The method, and those whose inversions it starts from, the first of all last.

        Raises:
            PackError: the pack has no such method, or they go round in a circle.
        """
        phases, methods = [method], self.meta["methods"]
        while (inner := find_method(phases[-1]).first_phase(methods)) is not None:
            if inner not in METHODS or not self._has(inner):
                raise PackError(
                    f"pack {self.name}: {phases[-1]} starts from {inner!r}, which the pack has "
                    f"not; there are: {', '.join(self.methods)}"
                )
            if inner in phases:
                circle = " -> ".join([*phases, inner])
                raise PackError(f"pack {self.name}: methods start from each other: {circle}")
            phases.append(inner)
        return phases

    @cached_property
    def generator_config(self) -> GeneratorConfig:
        """Sizes of the generator; PackError for a family or sizes that there are not."""
        entry = self.meta["generator"]
        kind = entry.get("kind")
        if kind not in FAMILIES:
            raise PackError(
                f"pack {self.name}: generator kind {kind!r} is not supported; "
                f"there are: {', '.join(sorted(FAMILIES))}"
            )
        config: GeneratorConfig = build_config(FAMILIES[kind].config, entry["config"], self.files)
        return config

    @cached_property
    def generator(self) -> Generator:
        """The generator on the CPU, in evaluation mode."""
        # Also when first asked for inside inference mode: the network is kept.
        with torch.inference_mode(False):
            network = build_generator(self.generator_config)
            return load_network(network, self.files, self.meta["generator"]["file"])

    def has_network(self, role: str) -> bool:
        """A network of this role was imported into the pack."""
        return role in self.meta.get("networks", {})

    def network(self, role: str) -> nn.Module:
        """An imported network (``"recognition"``, ``"parsing"``) on the CPU, ready for use.

        UnknownNameError lists those that the pack has.
        """
        entries = self.meta.get("networks", {})
        if role not in entries or role not in NETWORKS:
            raise UnknownNameError(f"network in pack {self.name}", role, entries)
        kind = entries[role].get("kind")
        if kind not in NETWORKS[role]:
            raise PackError(f"pack {self.name}: a {role} network of kind {kind!r} is not supported")
        with torch.inference_mode(False):
            return load_network(NETWORKS[role][kind](), self.files, entries[role]["file"])

    def inverter(self, method: str = "fse", *, device: str | torch.device = "cpu") -> Inverter:
        """A method on a device; UnknownNameError lists those that work with the pack."""
        parts = self.parts(method, device=device)
        # Networks are kept: also when first asked for inside inference mode.
        with torch.inference_mode(False):
            return find_method(method).build(parts)

    def with_options(self, method: str, options: Mapping[str, Any]) -> Pack:
        """The same pack with a method set otherwise than its entry says.

        Args:
            options: of ``Inverter.options``; text is read as YAML would.

        Raises:
            UnknownNameError: there is no such method, or it has no such option.
            PackError, by ``inverter``: a value that makes no sense.
        """
        if not options:
            return self
        found, methods = find_method(method), self.meta["methods"]
        known = (*found.entry_options, *found.config_options)
        for name in options:
            if name not in known:
                raise UnknownNameError(f"option of method {method}", name, known)
        values = {k: _read_value(v) if isinstance(v, str) else v for k, v in options.items()}
        entry = dict(methods.get(method, {}))
        entry |= {k: v for k, v in values.items() if k in found.entry_options}
        if config := {k: v for k, v in values.items() if k in found.config_options}:
            entry["config"] = {**entry.get("config", {}), **config}
        meta = {**self.meta, "methods": {**methods, method: entry}}
        return Pack(replace(self.files, meta=meta))

    def parts(self, method: str, *, device: str | torch.device = "cpu") -> MethodParts:
        """What the pack has for a method; UnknownNameError lists those that work with it."""
        if method not in self.methods:
            raise UnknownNameError(f"method in pack {self.name}", method, self.methods)
        self._phases(method)  # that what it starts from is there
        return MethodParts(
            generator=self.generator_on(torch.device(device)),
            files=self.files,
            entry=self.meta["methods"].get(method, {}),
            device=torch.device(device),
        )

    def generator_on(self, device: torch.device) -> Generator:
        """The pack's own on the CPU, a copy elsewhere: what others use stays where it is."""
        if device.type == "cpu":
            return self.generator
        with torch.inference_mode(False):
            return copy.deepcopy(self.generator).to(device)

    def directions(self) -> Directions:
        """Calibrated directions; PackError for one of another generator or a space it lacks."""
        meta = self.meta["directions"]
        tensors = self.files.tensors(meta["file"])
        entries = meta["entries"].items()
        return Directions({name: self._direction(name, entry, tensors) for name, entry in entries})

    def _direction(
        self, name: str, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> Direction:
        try:
            return read_direction(
                name,
                entry,
                tensors,
                generator=self.generator_config,
                generator_digest=self.files.digest(self.meta["generator"]["file"]),
            )
        except ValueError as error:
            raise PackError(f"pack {self.name}: direction {name!r}: {error}") from error

    def mean_embedding(self) -> Tensor | None:
        """Mean recognition embedding of the training faces, which cosines are centred on."""
        entry = self.meta.get("identity")
        return None if entry is None else self.files.tensors(entry["file"])["mean_embedding"]

    def smile_measure(self) -> SmileMeasure | None:
        """Smile score of landmarks, in standard deviations over the training faces, 0 their mean.

        None for a pack that carries none.
        """
        entry = self.meta.get("identity")
        tensors = {} if entry is None else self.files.tensors(entry["file"])
        if "smile_weights" not in tensors:
            return None
        weights = tensors["smile_weights"].double().numpy()
        return SmileMeasure(weights, float(tensors["smile_bias"]))


def _read_value(text: str) -> Any:
    """As YAML reads it, but ``3e-5`` is a number too."""
    value = yaml.safe_load(text)
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def load_pack(name_or_path: str | Path = DEFAULT_PACK) -> Pack:
    """Open a pack by path or name; UnknownNameError lists the names there are."""
    path = Path(name_or_path)
    if path.is_dir():
        return Pack(PackFiles.open(path))
    known = {folder.name: folder for folder in available_packs()}
    if str(name_or_path) not in known:
        raise UnknownNameError("pack", str(name_or_path), known)
    return Pack(PackFiles.open(known[str(name_or_path)]))


def available_packs() -> Iterator[Path]:
    """Folders of the packs that can be named: embedded ones first, then ``VIDINV_PACKS``."""
    roots = [
        EMBEDDED,
        *(Path(p) for p in os.environ.get("VIDINV_PACKS", "").split(os.pathsep) if p),
    ]
    for root in roots:
        if root.is_dir():
            yield from sorted(f for f in root.iterdir() if (f / "pack.json").is_file())
