"""Interpolation: straight lines through latents, codes and fitted states."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.packs.tiny import HYPER, make_hyper
from vidinv.editing.interpolation import interpolate, interpolate_states
from vidinv.errors import UsageError
from vidinv.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from vidinv.inversion import TrackState
from vidinv.inversion.hyper import WEIGHTS, HyperInverter
from vidinv.types import Inversion

SHARES = torch.tensor([0.0, 0.25, 1.0])


def face(seed: int, **codes) -> Inversion:
    random = torch.Generator().manual_seed(seed)
    return Inversion(
        torch.randn(1, 6, 8, generator=random),
        {name: torch.randn(shape, generator=random) for name, shape in codes.items()},
    )


def test_latents_and_codes_go_from_one_face_to_the_other():
    first, second = (face(seed, features=(1, 4, 2, 2), weight=(1, 3, 4, 1, 1)) for seed in (0, 1))
    between = interpolate(first, second, SHARES)
    assert len(between) == 3
    pairs = [(between.latents_NLD, first.latents_NLD, second.latents_NLD)]
    pairs += [(between.codes[n], first.codes[n], second.codes[n]) for n in ("features", "weight")]
    for found, one, other in pairs:
        for row, share in zip(found, SHARES, strict=True):
            torch.testing.assert_close(row[None], (1 - share) * one + share * other)


@pytest.mark.parametrize(
    ("first", "second"),
    [(face(0, features=(1, 4)), face(1)), (face(0), Inversion(torch.zeros(2, 6, 8)))],
)
def test_faces_that_do_not_go_together_are_refused(first, second):
    with pytest.raises(ValueError, match=r"codes|one face each"):
        interpolate(first, second, SHARES)


@torch.no_grad()
def test_hyper_interpolates_the_generator_s_weights():
    """Section 4.6: the picture between is that of the generator with the weights between."""
    torch.manual_seed(0)
    config = StyleGAN2Config(16, channel_base=128, channel_max=8, z_dim=8, w_dim=8)
    generator = StyleGAN2Generator(config).eval()
    inverter = HyperInverter(generator, make_hyper(HYPER, generator))
    first, second = (inverter.encode(torch.rand(1, 3, 16, 16) * 2 - 1) for _ in range(2))
    between = interpolate(first, second, torch.tensor([0.25]))
    changed = copy.deepcopy(generator)
    for layer in inverter.layers:
        own, others = (inversion.codes[WEIGHTS + layer][0] for inversion in (first, second))
        changed.synthesis.get_submodule(layer).weight += 0.75 * own + 0.25 * others
    expected = changed.synthesis(0.75 * first.latents_NLD + 0.25 * second.latents_NLD)
    actual = inverter.render(between, between.unedited)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    assert (actual - generator.synthesis(between.latents_NLD)).abs().mean() > 0.01


def test_fitted_weights_are_interpolated():
    states = [
        TrackState("pti", {"w": torch.full([2], float(v)), "n": torch.tensor(3)}) for v in (0, 4)
    ]
    between = interpolate_states(*states, 0.25)
    assert between.tensors["w"].tolist() == [1.0, 1.0]
    assert between.tensors["n"].item() == 3


@pytest.mark.parametrize("tensors", [{"w": torch.zeros(3)}, {"v": torch.zeros(2)}])
def test_states_with_other_tensors_are_refused(tensors):
    first, second = TrackState("pti", {"w": torch.zeros(2)}), TrackState("pti", tensors)
    with pytest.raises(UsageError, match="pti: nothing lies between"):
        interpolate_states(first, second, 0.5)
