"""Between two inverted faces: latents, codes and what was fitted, on a straight line.

HyperInverter (Dinh et al. 2022, section 4.6) interpolates the residuals of the generator's weights
together with w; the same is done here with whatever a method keeps of a face besides its latents
(the feature code of ``fse``, say) and with what it fits to a track. Style mixing (Yao et al. 2022,
figures 7 and 20) is in ``vidinv.inversion.fse``.
"""

from __future__ import annotations

from torch import Tensor

from vidinv.errors import UsageError
from vidinv.inversion.state import TrackState
from vidinv.types import Inversion


def interpolate(first: Inversion, second: Inversion, shares_N: Tensor) -> Inversion:
    """(1 - share) ``first`` + share ``second`` of latents and codes, a face for every share.

    Args:
        first, second: of one face each, by one method.
        shares_N: ``[N]``; 0 gives the first, 1 the second.
    """
    if len(first) != 1 or len(second) != 1:
        raise ValueError(f"expected one face each, got {len(first)} and {len(second)}")
    if first.codes.keys() != second.codes.keys():
        raise ValueError(f"other codes: {sorted(first.codes)} and {sorted(second.codes)}")
    codes = {
        name: _between(code, second.codes[name], shares_N) for name, code in first.codes.items()
    }
    return Inversion(_between(first.latents_NLD, second.latents_NLD, shares_N), codes)


def interpolate_states(first: TrackState, second: TrackState, share: float) -> TrackState:
    """What lies between two fitted states: tuned weights, as residuals are in HyperInverter.

    Raises:
        UsageError: they hold other tensors, so that there is nothing between them.
    """
    shapes = [{n: t.shape for n, t in state.tensors.items()} for state in (first, second)]
    if first.method != second.method or shapes[0] != shapes[1]:
        raise UsageError(f"{first.method}: nothing lies between what it fitted to the two faces")
    tensors = {
        name: tensor.lerp(second.tensors[name], share) if tensor.is_floating_point() else tensor
        for name, tensor in first.tensors.items()
    }
    return TrackState(first.method, tensors, first.facts)


def _between(first: Tensor, second: Tensor, shares_N: Tensor) -> Tensor:
    shares = shares_N.to(first).reshape(-1, *[1] * (first.dim() - 1))
    return first.lerp(second.to(first.device), shares)
