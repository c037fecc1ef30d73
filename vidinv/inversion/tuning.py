"""Weights that are tuned to a face track: what ``pti`` and ``adaptive`` have in common.

Adam over the sampled frames, one a step in turn, for at most so many seconds. The tuned weights are
the track's state, and stand in for the network's own by ``torch.func.functional_call``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidinv.inversion.adam import Adam
from vidinv.inversion.state import TrackState

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class TuningPlan:
    """How long, and in what steps.

    Attributes:
        frames: that take turns.
        steps: in all.
        max_seconds: after which tuning ends with what it has.
        learning_rate, betas: of Adam.
        seconds: a clock.
        progress: told the share that is done, 0..1.
    """

    frames: int
    steps: int
    max_seconds: float
    learning_rate: float
    betas: tuple[float, float]
    seconds: Callable[[], float]
    progress: Callable[[float], None]


def tuned_state(
    method: str,
    parameters: Iterable[tuple[str, Tensor]],
    loss: Callable[[Weights, slice], Tensor],
    plan: TuningPlan,
) -> TrackState:
    """The state of a track: weights that start as ``parameters``, which stay as they are.

    Args:
        loss: of weights and a row of the sample, a scalar; called where gradients are recorded.
    """
    start = plan.seconds()
    weights = {name: w.detach().clone().requires_grad_() for name, w in parameters}
    adams = {name: Adam(weight.detach(), betas=plan.betas) for name, weight in weights.items()}
    done, used = 0, 0.0
    while done < plan.steps and used < 1:
        row = done % plan.frames
        value = loss(weights, slice(row, row + 1))
        gradients = torch.autograd.grad(value, [*weights.values()], materialize_grads=True)
        with torch.no_grad():
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                weight += adams[name].change(gradient, plan.learning_rate)
        done += 1
        used = (plan.seconds() - start) / plan.max_seconds
        plan.progress(min(1.0, max(done / plan.steps, used)))
    facts: dict[str, Any] = {"frames": plan.frames, "steps": done}
    if done < plan.steps:
        facts["notes"] = [
            f"{method}: tuning ended after {plan.max_seconds:g} s, at step {done} of {plan.steps}: "
            "another run may give slightly other pictures"
        ]
    return TrackState(method, {name: w.detach().cpu() for name, w in weights.items()}, facts)


class LoadedWeights:
    """The weights of states on a device; those of the last track are kept there."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._loaded: tuple[str, Weights] = "", {}

    def of(self, state: TrackState) -> Weights:
        """In one layout, whether they were fitted or read: it decides how sums are rounded."""
        if self._loaded[0] != state.digest:
            with torch.inference_mode(False):
                weights = {n: _laid_out(w).to(self._device) for n, w in state.tensors.items()}
            self._loaded = state.digest, weights
        return self._loaded[1]


def _laid_out(weight: Tensor) -> Tensor:
    if weight.dim() != 4:
        return weight.contiguous()
    return weight.contiguous(memory_format=torch.channels_last)
