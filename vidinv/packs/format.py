"""The pack format: a folder of safetensors files and ``pack.json`` that describes them.

pack.json (format 1) has: name, version, description, licence, attribution, generator (kind,
config, file), alignment (name of the crop), methods (name -> file, config), directions (file,
entries: name -> space, positive, strength_range and, optionally, layers and generator, the sha256
of the generator file that it was made for, and checked, whether somebody looked at the range; in
the file NAME and, optionally, NAME.outline; ``vidinv.editing.directions``), identity (file:
``mean_embedding`` of the training faces and, optionally, ``smile_weights`` [64] and ``smile_bias``
[1] of ``SmileMeasure``), files (name -> sha256, bytes), training, metrics. Imports add networks
(recognition, parsing -> kind, file; vidinv/networks/registry.py) and imported (file, bytes, sha256,
layout of what it was made from). Weights are stored in float16, or float32 where asked for, and
used in float32. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vidinv.errors import PackError
from vidinv.files import atomic_file, temporary_path

FORMAT = 1
REQUIRED = (
    "name",
    "version",
    "licence",
    "generator",
    "alignment",
    "methods",
    "directions",
    "files",
)


@dataclass(frozen=True)
class PackFiles:
    """A pack's folder and its checked description."""

    folder: Path
    meta: Mapping[str, Any]

    @classmethod
    def open(cls, folder: Path) -> PackFiles:
        """Read and check ``pack.json``; PackError says what is wrong with which file."""
        path = folder / "pack.json"
        try:
            meta = json.loads(path.read_text())
        except FileNotFoundError:
            raise PackError(f"{folder} is not a pack: it has no pack.json") from None
        except (OSError, ValueError) as error:
            raise PackError(f"{path} cannot be read: {error}") from error
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            found = meta.get("format") if isinstance(meta, dict) else None
            raise PackError(f"{path}: pack format {found!r} is not supported (expected {FORMAT})")
        missing = [key for key in REQUIRED if key not in meta]
        if missing:
            raise PackError(f"{path} lacks: {', '.join(missing)}")
        return cls(folder, meta)

    def problems(self) -> list[str]:
        """What ``packs verify`` finds: missing, changed or unlisted files; empty when sound."""
        found = []
        for name in self.meta["files"]:
            try:
                self.check(name)
            except PackError as error:
                found.append(str(error))
        listed = {"pack.json", "README.md", *self.meta["files"]}
        extra = sorted(p.name for p in self.folder.iterdir() if p.name not in listed)
        return found + [f"{self.folder / name} is not listed in pack.json" for name in extra]

    def check(self, name: str) -> Path:
        """Path of a listed file whose size and sha256 are as recorded; PackError otherwise."""
        entry = self.meta["files"].get(name)
        path = self.folder / name
        if entry is None or Path(name).name != name:
            raise PackError(f"{self.folder / 'pack.json'} does not list the file {name!r}")
        if not path.is_file():
            raise PackError(f"{path} is missing")
        if path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
            raise PackError(f"{path} is damaged or was changed: its sha256 is not the recorded one")
        return path

    def digest(self, name: str) -> str:
        """Recorded sha256 of a listed file; PackError for one that is not listed."""
        if name not in self.meta["files"]:
            raise PackError(f"{self.folder / 'pack.json'} does not list the file {name!r}")
        return str(self.meta["files"][name]["sha256"])

    def add_metrics(self, group: str, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Write what was measured into pack.json, in ``metrics``: rows of a group by name."""
        meta = json.loads(json.dumps(self.meta))  # deep
        group_of = meta.setdefault("metrics", {}).setdefault(group, {})
        group_of.update({name: dict(row) for name, row in rows.items()})
        with atomic_file(self.folder / "pack.json") as temporary:
            temporary.write_text(json.dumps(meta, indent=2) + "\n")

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Tensors of a listed file as float32."""
        path = self.check(name)
        try:
            return {key: value.float() for key, value in load_file(path).items()}
        except SafetensorError as error:
            raise PackError(f"{path} is not a safetensors file: {error}") from error


def write_pack(
    folder: Path,
    meta: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    *,
    half: bool = True,
) -> None:
    """Write tensor files and ``pack.json`` with their sizes and hashes.

    A direction that does not say which generator it was made for gets the hash of this one.

    Args:
        tensors: file name -> tensor name -> tensor.
        half: in float16, but for tensors that leave its range; else in float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, group in tensors.items():
        _save(folder / name, {key: _stored(value, half=half) for key, value in group.items()})
        files[name] = _listed(folder / name)
    meta = {**meta, "directions": _of_generator(meta, files)}
    text = json.dumps({"format": FORMAT, **meta, "files": files}, indent=2) + "\n"
    (folder / "pack.json").write_text(text)


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    """With the permissions of any new file; ``save_file`` would let the owner alone read it."""
    path.write_bytes(save(tensors))


def _stored(value: Tensor, *, half: bool) -> Tensor:
    value = value.detach().float()
    small = value.to(torch.float16)
    fits = half and bool(torch.isfinite(small).all() or not torch.isfinite(value).all())
    return (small if fits else value).contiguous().clone()


def copy_with_directions(
    files: PackFiles,
    folder: Path,
    entries: Mapping[str, Mapping[str, Any]],
    vectors: Mapping[str, Tensor],
) -> None:
    """A copy of a pack with directions added, under the name of ``folder``; all or nothing.

    Args:
        folder: is not there yet.
        entries, vectors: by name, as pack.json and its file have them; those of the same name are
            replaced.

    Raises:
        PackError: a file of the pack is missing or damaged.
        OSError: the copy cannot be written.
    """
    with _copy(files, folder) as (temporary, meta):
        path = temporary / meta["directions"]["file"]
        half = {name: vector.to(torch.float16).contiguous() for name, vector in vectors.items()}
        stale = {f"{name}.outline" for name in vectors}
        kept = {key: value for key, value in load_file(path).items() if key not in stale}
        _save(path, {**kept, **half})
        meta["files"][path.name] = _listed(path)
        own = {"generator": files.digest(meta["generator"]["file"])}
        meta["directions"]["entries"] |= {name: {**entry, **own} for name, entry in entries.items()}
        meta["name"] = folder.name


def copy_with_method(
    files: PackFiles,
    folder: Path,
    method: str,
    entry: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> None:
    """A copy of a pack, under its own name, with a method added or replaced; all or nothing.

    Args:
        folder: is not there yet.
        entry: what pack.json says of the method, but for the file of its ``tensors``.

    Raises:
        PackError: a file of the pack is missing or damaged.
        OSError: the copy cannot be written.
    """
    with _copy(files, folder) as (temporary, meta):
        path = temporary / f"{method}.safetensors"
        _save(path, {key: _stored(value, half=True) for key, value in tensors.items()})
        meta["files"][path.name] = _listed(path)
        meta["methods"][method] = {"file": path.name, **entry}


def copy_with_mapping(
    files: PackFiles, folder: Path, mapping: Mapping[str, Tensor], samples: Mapping[str, Any]
) -> None:
    """A copy of a pack, under its own name, with another mapping network; all or nothing.

    Directions lie in W, which the synthesis alone reads: those of the pack's generator stay valid.

    Args:
        folder: is not there yet.
        mapping: all of the network's tensors by name.
        samples: what was measured of pictures from z, for ``metrics.samples``.

    Raises:
        PackError: a file of the pack is missing or damaged.
        ValueError: the tensors are not those of the pack's mapping.
        OSError: the copy cannot be written.
    """
    with _copy(files, folder) as (temporary, meta):
        path, before = (
            temporary / meta["generator"]["file"],
            files.digest(meta["generator"]["file"]),
        )
        there = load_file(path)
        own = {f"mapping.{key}": _stored(value, half=True) for key, value in mapping.items()}
        if {k: v.shape for k, v in own.items()} != {
            k: v.shape for k, v in there.items() if k.startswith("mapping.")
        }:
            raise ValueError(f"{path.name} has another mapping network")
        _save(path, {**there, **own})
        meta["files"][path.name] = _listed(path)
        for entry in meta["directions"]["entries"].values():
            if entry.get("generator") == before:
                entry["generator"] = meta["files"][path.name]["sha256"]
        meta.setdefault("metrics", {})["samples"] = dict(samples)


@contextmanager
def _copy(files: PackFiles, folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A copy's temporary folder and description, to change; written and put in place at the end."""
    temporary = temporary_path(folder)
    temporary.mkdir(parents=True)
    try:
        for name in files.meta["files"]:
            shutil.copyfile(files.check(name), temporary / name)
        if (files.folder / "README.md").is_file():
            shutil.copyfile(files.folder / "README.md", temporary / "README.md")
        meta = json.loads(json.dumps(files.meta))  # deep
        yield temporary, meta
        (temporary / "pack.json").write_text(json.dumps(meta, indent=2) + "\n")
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _listed(path: Path) -> dict[str, Any]:
    """What the table of files says of one."""
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def _of_generator(meta: Mapping[str, Any], files: Mapping[str, Any]) -> dict[str, Any]:
    directions = dict(meta["directions"])
    file = files.get(meta["generator"]["file"])
    if file is not None:
        made_for = {"generator": file["sha256"]}
        entries = directions["entries"].items()
        directions["entries"] = {name: {**made_for, **entry} for name, entry in entries}
    return directions


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
