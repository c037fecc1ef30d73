"""Files of encoders as weights of methods: psp (pSp, e4e, ReStyle), hyper and fse."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vidinv.checkpoints.errors import CheckpointError
from vidinv.checkpoints.parts import MethodPart
from vidinv.generators.base import GeneratorConfig
from vidinv.inversion.fse_published import PublishedConfig
from vidinv.inversion.hyper_networks import HyperConfig
from vidinv.inversion.psp_encoder import PspConfig

State = Mapping[str, Tensor]
OFFSET_TYPES = ("Encoder4Editing", "ProgressiveBackboneEncoder")
RESTYLE_STEPS = 5  # of its published results
_HYPER = ("hypernet.", "w_encoder.", "w_bar_encoder.")


def read_encoder_file(
    state: State, opts: Mapping[str, Any], latent_avg: Any
) -> tuple[str, dict[str, MethodPart]]:
    """The layout in words, and weights by method; CheckpointError where none is known."""
    if any(key.startswith("hypernet.") for key in state):
        return "HyperInverter", {"hyper": _hyper(state)}
    encoder = {k.removeprefix("encoder."): v for k, v in state.items() if k.startswith("encoder.")}
    if "styles.0.linear.weight" in encoder and "input_layer.0.weight" in encoder:
        layout, config = _psp_config(encoder, opts)
        return layout, {"psp": _psp(encoder, config, latent_avg)}
    raise CheckpointError("the file of an encoder whose networks are not known")


def read_feature_style(state: State) -> MethodPart:
    """The Feature-Style encoder's bare weights, which lack their mean latent.

    K does not stand in the file either: it is the paper's, 5, until pack.json says another.
    """
    numbers = range(1, 5)
    widths = tuple(len(state[f"block_{n}.0.conv2.weight"]) for n in numbers)
    blocks = tuple(_count(state, f"block_{n}.") for n in numbers)
    config = PublishedConfig(widths=widths, blocks=blocks)  # type: ignore[arg-type]

    def weights(generator: GeneratorConfig) -> State:
        rows = _count(state, "styles.")
        if rows != generator.num_ws:
            raise CheckpointError(
                f"an encoder for {rows} rows of w+, where the generator has {generator.num_ws}"
            )
        return state

    return MethodPart(dataclasses.asdict(config), weights, lacks_mean=True)


def _count(state: State, prefix: str) -> int:
    """Modules of a list."""
    names = (key.removeprefix(prefix) for key in state if key.startswith(prefix))
    return len({name.split(".")[0] for name in names})


def _hyper(state: State) -> MethodPart:
    """Without the discriminator that the file also has."""
    own = {key: value for key, value in state.items() if key.startswith(_HYPER)}
    missing = [p for p in _HYPER if not any(key.startswith(p) for key in own)]
    if missing:
        raise CheckpointError(f"{missing[0]}* is missing from a file of HyperInverter")
    hidden = next(len(value) for key, value in own.items() if key.endswith(".w1"))
    config = dataclasses.asdict(HyperConfig(hidden_width=hidden))
    return MethodPart(config, lambda generator: own)


def _psp_config(encoder: State, opts: Mapping[str, Any]) -> tuple[str, PspConfig]:
    kind = str(opts.get("encoder_type", ""))
    rows = "offsets" if kind in OFFSET_TYPES else "own"
    sees_pictures = encoder["input_layer.0.weight"].shape[1] == 6
    steps = int(opts.get("n_iters_per_batch", RESTYLE_STEPS)) if sees_pictures else 1
    config = PspConfig(
        rows=rows,  # type: ignore[arg-type]
        pyramid="latlayer1.weight" in encoder,
        steps=max(steps, 2) if sees_pictures else 1,
    )
    name = "e4e" if rows == "offsets" else "pSp"
    return f"ReStyle ({name})" if sees_pictures else name, config


def _psp(encoder: State, config: PspConfig, latent_avg: Any) -> MethodPart:
    def state(generator: GeneratorConfig) -> State:
        rows = sum(key.startswith("styles.") and key.endswith("linear.weight") for key in encoder)
        if rows != generator.num_ws:
            raise CheckpointError(
                f"an encoder for {rows} rows of w+, where the generator has {generator.num_ws}"
            )
        mean = torch.zeros(generator.w_dim)
        if isinstance(latent_avg, Tensor):
            mean = latent_avg.float()
        full = mean.expand(generator.num_ws, generator.w_dim)
        return {**encoder, "latent_avg": full}

    return MethodPart(dataclasses.asdict(config), state)
