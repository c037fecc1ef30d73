"""Weights to start a run or make a pack from: a run's, a file of safetensors, or a pack.

A run writes ``weights.safetensors`` beside ``latest.pt``: averaged generator and encoder, and the
other modules as they are, with the module's name before each key (``generator.``, ``encoder.``,
``probe.``, ``adversary.``, ``edits.``). A pack has generator and encoder alone, in half precision.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vidinv.errors import UsageError
from vidinv.files import atomic_file
from vidinv.inversion.fse_encoder import FeatureHead, FeatureStyleEncoder, rename_old_keys
from vidinv.packs.format import PackFiles

WEIGHTS_FILE = "weights.safetensors"
IMAGES_SEEN = "images_seen"  # in the file's metadata
# Keys that weights may lack: batch norm's counter, which nothing reads, and the adversary's
# balance, which each stage measures for itself.
NORM_COUNTER = "num_batches_tracked"
OPTIONAL = (NORM_COUNTER, "balance")


@dataclass(frozen=True)
class Weights:
    """Tensors by module and name, float32.

    Attributes:
        images_seen: of the run's last stage; 0 where that is unknown.
    """

    modules: Mapping[str, Mapping[str, Tensor]]
    images_seen: int = 0


def write_weights(
    path: Path, modules: Mapping[str, Mapping[str, Tensor]], images_seen: int
) -> None:
    """Write state dicts by module as one file, atomically."""
    tensors = {
        f"{module}.{key}": value.detach().float().clone(memory_format=torch.contiguous_format)
        for module, state in modules.items()
        for key, value in state.items()
        if not key.endswith(NORM_COUNTER)
    }
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={IMAGES_SEEN: str(images_seen)}))


def read_weights(path: Path) -> Weights:
    """Weights of a run's folder, of a pack's folder, or of a file.

    Raises:
        UsageError: there is nothing of these, or it cannot be read; PackError for a faulty pack.
    """
    if (path / "pack.json").is_file():
        return _pack_weights(PackFiles.open(path))
    file = path / WEIGHTS_FILE if path.is_dir() else path
    try:
        with safe_open(file, framework="pt") as tensors:
            keys = tensors.keys()
            modules = by_module({key: tensors.get_tensor(key).float() for key in keys})
            seen = (tensors.metadata() or {}).get(IMAGES_SEEN, "0")
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"{path}: expected the folder of a run or a pack, or a safetensors file: {error}"
        ) from error
    return Weights(modules, int(seen))


def by_module(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors whose names begin with their module's, by module."""
    modules: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        module, _, name = key.partition(".")
        modules.setdefault(module, {})[name] = value
    return modules


def _pack_weights(files: PackFiles) -> Weights:
    generator, encoder = files.meta["generator"], files.meta["methods"].get("fse")
    if encoder is None:
        raise UsageError(f"{files.folder}: a pack without the method fse starts no training")
    names = {"generator": generator["file"], "encoder": encoder["file"]}
    return Weights({module: files.tensors(name) for module, name in names.items()})


def take_over(module: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Load all of a module from ``state``; False, and nothing is loaded, where they do not fit."""
    trial = copy.deepcopy(module)
    try:
        missing, unexpected = trial.load_state_dict(dict(state), strict=False)
    except RuntimeError:  # another shape
        return False
    if unexpected or any(not key.endswith(OPTIONAL) for key in missing):
        return False
    module.load_state_dict(dict(state), strict=False)
    return True


def take_generator(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a generator; layers that one of the two lacks (another resolution) are left out.

    So is a mapping that is missing: it is set when a pack is built (training.mapping).

    Raises:
        UsageError: it does not fit.
    """
    try:
        missing, unexpected = network.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise _unfit(path, "generator", str(error).splitlines()[-1].strip()) from error
    wrong = [key for key in unexpected if not key.startswith("synthesis.")]
    wrong += [key for key in missing if not key.startswith(("synthesis.", "mapping."))]
    if wrong:
        raise _unfit(path, "generator", ", ".join(wrong[:3]))


def take_encoder(
    encoder: FeatureStyleEncoder, state: Mapping[str, Tensor], path: Path
) -> list[str]:
    """Load an encoder; returns those of its optional parts that do not fit and begin anew.

    Raises:
        UsageError: the rest of it does not fit.
    """
    parts = ("row_head", "feature_head", "feature_editor")
    anew = []
    for name in parts:
        part = getattr(encoder, name)
        own = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
        if name == "feature_head" and part is not None and own:
            rename_old_keys(own)
            own = grown_head(part, own)
        if part is not None and not take_over(part, own):
            anew.append(name)
    rest = {k: v for k, v in state.items() if not k.startswith(parts)}
    try:
        missing, unexpected = encoder.load_state_dict(rest, strict=False)
    except RuntimeError as error:
        raise _unfit(path, "encoder", str(error).splitlines()[-1].strip()) from error
    missing = [k for k in missing if not k.startswith(parts) and not k.endswith(NORM_COUNTER)]
    if wrong := [*missing, *unexpected]:
        raise _unfit(path, "encoder", ", ".join(wrong[:3]))
    return anew


def grown_head(head: FeatureHead, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A narrower or shallower head's weights for ``head``, which then computes the same.

    Blocks and channels that are new have the weights of ``head``; blocks begin as the identity, and
    nothing that was there reads the channels yet. Of a head that is neither, all comes back as it
    is.
    """
    deeper = {k: v for k, v in head.state_dict().items() if k.startswith("refine.")}
    return _widened_head(head, {**deeper, **state})


def _widened_head(head: FeatureHead, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    width, new_width = (s["expand.weight"].shape[1] for s in (state, head.state_dict()))
    if width >= new_width:
        return dict(state)
    widened = {}
    for key, own in head.state_dict().items():
        if (old := state.get(key)) is None:
            continue
        value = own.clone()
        if own.dim() < 4:  # of batch norms and activations, by channel
            value[tuple(slice(n) for n in old.shape)] = old
        else:
            # fuse reads the projection's channels first, then the generator's.
            split = width if key == "fuse.0.weight" else old.shape[1]
            shift = new_width - width if key == "fuse.0.weight" else 0
            value[: len(old)] = 0
            value[: len(old), :split] = old[:, :split]
            value[: len(old), split + shift : old.shape[1] + shift] = old[:, split:]
        widened[key] = value
    return widened


def _unfit(path: Path, module: str, why: str) -> UsageError:
    return UsageError(f"{path}: {module} does not fit: {why}")
