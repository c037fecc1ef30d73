"""BigGAN-deep in huggingface's layout as ours (docs/REFERENCES.md): spectral norms are folded."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from vidinv.generators.biggan import BigGANConfig

State = dict[str, Tensor]


def read_biggan(theirs: Mapping[str, Tensor]) -> tuple[BigGANConfig, State]:
    """Sizes and weights, with the statistics of truncation 1."""
    plain = {}
    for key, value in theirs.items():
        if key.endswith((".weight_u", ".weight_v")):
            continue
        if key.endswith("running_means"):
            plain[key.replace("running_means", "running_mean")] = value[-1]
        elif key.endswith("running_vars"):
            plain[key.replace("running_vars", "running_var")] = value[-1]
        elif key.endswith(".weight_orig"):
            name = key.removesuffix("_orig")
            u, v = (theirs[f"{name}_{axis}"] for axis in "uv")
            plain[name] = value / (u @ value.flatten(1) @ v)
        else:
            plain[key] = value
    state = {_renamed(key): value for key, value in plain.items()}
    for part in ("weight", "bias"):  # three of its channels count
        state[f"synthesis.conv_to_rgb.{part}"] = state[f"synthesis.conv_to_rgb.{part}"][:3]
    return _config(state), _with_numbered_blocks(state)


def _renamed(key: str) -> str:
    if key.startswith("embeddings."):
        return f"mapping.{key}"
    return key.replace("generator.", "synthesis.", 1).replace(".snconv1x1_", ".")


def _with_numbered_blocks(state: Mapping[str, Tensor]) -> State:
    """Blocks by number, attention by name."""
    (attention,) = {m[1] for k in state if (m := re.match(r"synthesis\.layers\.(\d+)\.theta", k))}
    named = {}
    for key, value in state.items():
        match = re.fullmatch(r"synthesis\.layers\.(\d+)\.(.+)", key)
        if match is None:
            named[key] = value
        elif match[1] == attention:
            named[f"synthesis.attention.{match[2]}"] = value
        else:
            number = int(match[1]) - (int(match[1]) > int(attention))
            named[f"synthesis.blocks.{number}.{match[2]}"] = value
    channels = state["synthesis.bn.weight"]
    named["synthesis.bn.num_batches_tracked"] = channels.new_zeros([]).long()
    return named


def _config(state: Mapping[str, Tensor]) -> BigGANConfig:
    blocks = _with_numbered_blocks(state)
    count = 1 + max(int(k.split(".")[2]) for k in blocks if k.startswith("synthesis.blocks."))
    width = len(state["synthesis.bn.weight"])
    inputs = [len(blocks[f"synthesis.blocks.{i}.bn_0.running_mean"]) for i in range(0, count, 2)]
    class_dim, num_classes = state["mapping.embeddings.weight"].shape
    w_dim = blocks["synthesis.blocks.0.bn_0.scale.weight"].shape[1]
    multiples = (*(channels // width for channels in inputs), 1)
    return BigGANConfig(width, multiples, w_dim - class_dim, class_dim, num_classes)
