"""From downloaded files to a pack, and from a pack to a file that others read.

vidinv packs import stylegan2-ffhq.pkl e4e_ffhq_encode.pt smile.pt -o ffhq-1024
vidinv packs export ffhq-1024 -o ffhq.pt
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidinv.checkpoints.directions import DirectionOptions
from vidinv.checkpoints.errors import CheckpointError
from vidinv.checkpoints.files import read_checkpoint
from vidinv.checkpoints.parts import DirectionPart, GeneratorPart, Parts, State
from vidinv.checkpoints.recognise import recognise
from vidinv.checkpoints.rosinality import generator_to_rosinality
from vidinv.errors import PackError, UsageError
from vidinv.files import atomic_file, temporary_path
from vidinv.generators.base import GeneratorConfig
from vidinv.packs import DEFAULT_PACK, Pack, load_pack, write_pack
from vidinv.packs.format import sha256

UNKNOWN_LICENCE = "not stated: that of the imported files"


@dataclass(frozen=True)
class ImportFile:
    """A file to import.

    Attributes:
        sha256: that it must have.
        direction: where it is one, what the user says of it.
    """

    path: Path
    sha256: str | None = None
    direction: DirectionOptions = field(default_factory=DirectionOptions)


@dataclass
class _Contents:
    """A pack in the making."""

    config: GeneratorConfig
    meta: dict[str, Any]
    tensors: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @property
    def mean_of_w(self) -> Tensor:
        """``[D]``, the generator's; 0 where it has none."""
        state = self.tensors[self.meta["generator"]["file"]]
        return state.get("mapping.w_avg", torch.zeros(self.config.w_dim))


def import_pack(
    files: Sequence[ImportFile],
    folder: Path,
    *,
    base: str | None = None,
    alignment: str = "ffhq",
    licence: str = UNKNOWN_LICENCE,
    half: bool = True,
) -> list[str]:
    """Make a pack; it appears under its name when it is whole and its networks have been built.

    Args:
        folder: is not there yet.
        base: a pack that what is imported is added to; by default the embedded one where no file
            has a generator.
        alignment: crop of faces that generator and encoders were trained on; a base has its own.
        half: store float16, but for tensors that leave its range.

    Returns:
        A line for each file: what it is.

    Raises:
        CheckpointError: a file is damaged, unsafe, of an unknown layout, or does not fit the rest.
        UsageError: the folder is there, or no file is given.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already: name a new folder")
    if not files:
        raise UsageError("there is no file to import")
    found = [(file, _read(file)) for file in files]
    parts = [part for _, part in found]
    generator = next((p.generator for p in parts if p.generator is not None), None)
    if generator is not None and base is not None:
        raise UsageError("a file has a generator, and so has --base: leave out one of them")
    if generator is None:
        contents = _of_base(load_pack(base or DEFAULT_PACK))
    else:
        contents = _around(generator, alignment)
    latent_avg = next((p.latent_avg for p in parts if p.latent_avg is not None), None)
    for part in parts:
        _put(contents, part, latent_avg)
    contents.meta |= {
        "name": folder.name,
        "version": "1",
        "description": "imported: " + ", ".join(dict.fromkeys(part.layout for part in parts)),
        "licence": licence,
        "imported": [_record(file.path, part.layout) for file, part in found],
    }
    _write(folder, contents, parts, half=half)
    return [f"{file.path.name}: {part.layout}" for file, part in found]


def export_rosinality(pack: Pack, path: Path) -> None:
    """Write a StyleGAN2 generator as ``{g_ema, latent_avg}``; UsageError for another family."""
    if pack.generator_config.kind != "stylegan2":
        raise UsageError(
            f"rosinality's layout is one of StyleGAN2; pack {pack.name} has a generator of kind "
            f"{pack.generator_config.kind}"
        )
    state = pack.files.tensors(pack.meta["generator"]["file"])
    theirs, latent_avg = generator_to_rosinality(state)
    with atomic_file(path) as temporary:
        torch.save({"g_ema": theirs, "latent_avg": latent_avg}, temporary)


def _read(file: ImportFile) -> Parts:
    content = read_checkpoint(file.path, expected_sha256=file.sha256)
    return recognise(content, file.path, file.direction)


def _record(path: Path, layout: str) -> dict[str, Any]:
    size = path.stat().st_size
    return {"file": path.name, "bytes": size, "sha256": sha256(path), "layout": layout}


def _of_base(pack: Pack) -> _Contents:
    meta = {key: value for key, value in pack.meta.items() if key not in ("format", "files")}
    tensors = {name: pack.files.tensors(name) for name in pack.meta["files"]}
    meta["methods"], meta["directions"] = dict(meta["methods"]), dict(meta["directions"])
    # Writing says anew which generator they are for: it is the same one.
    meta["directions"]["entries"] = {
        name: {key: value for key, value in entry.items() if key != "generator"}
        for name, entry in meta["directions"]["entries"].items()
    }
    return _Contents(pack.generator_config, meta, dict(tensors))


def _around(generator: GeneratorPart, alignment: str) -> _Contents:
    config = generator.config
    meta = {
        "alignment": alignment,
        "generator": {
            "kind": config.kind,
            "config": dataclasses.asdict(config),  # type: ignore[call-overload]
            "file": "generator.safetensors",
        },
        "methods": {},
        "directions": {"file": "directions.safetensors", "entries": {}},
    }
    tensors: dict[str, State] = {
        "generator.safetensors": generator.state,
        "directions.safetensors": {},
    }
    return _Contents(config, meta, tensors)


def _put(contents: _Contents, part: Parts, latent_avg: Tensor | None) -> None:
    """Add methods, networks and directions."""
    for name, method in part.methods.items():
        file = f"{name}.safetensors"
        contents.meta["methods"][name] = {"file": file, "config": dict(method.config)}
        contents.tensors[file] = method.state(contents.config)
        if method.lacks_mean:
            mean = contents.mean_of_w if latent_avg is None else latent_avg
            full = mean.expand(contents.config.num_ws, contents.config.w_dim)
            contents.tensors[file] = {**contents.tensors[file], "latent_avg": full}
    for role, (kind, state) in part.networks.items():
        file = f"{role}.safetensors"
        own = contents.meta.get("networks", {})
        contents.meta["networks"] = {**own, role: {"kind": kind, "file": file}}
        contents.tensors[file] = state
    _put_directions(contents, part.directions)


def _write(folder: Path, contents: _Contents, parts: Sequence[Parts], *, half: bool) -> None:
    """Under a temporary name; tried as a pack before it gets its own."""
    temporary = temporary_path(folder)
    try:
        write_pack(temporary, contents.meta, contents.tensors, half=half)
        _try(load_pack(temporary), parts)
        temporary.replace(folder)
    except PackError as error:
        raise CheckpointError(str(error).replace(str(temporary), str(folder))) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_directions(contents: _Contents, directions: Mapping[str, DirectionPart]) -> None:
    if not directions:
        return
    meta = contents.meta["directions"]
    for name, direction in directions.items():
        entry: dict[str, Any] = {
            "space": direction.space,
            "positive": direction.positive,
            "strength_range": list(direction.strength_range),
            "checked": False,
        }
        if direction.layers is not None:
            entry["layers"] = list(direction.layers)
        meta["entries"][name] = entry
    vectors: State = {name: direction.vector for name, direction in directions.items()}
    contents.tensors[meta["file"]] = {**contents.tensors[meta["file"]], **vectors}


def _try(pack: Pack, parts: Sequence[Parts]) -> None:
    """Build what was imported; what does not fit is a PackError."""
    assert pack.generator is not None
    for part in parts:
        for name in part.methods:
            pack.inverter(name)
        for role in part.networks:
            pack.network(role)
    pack.directions()
