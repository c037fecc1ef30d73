"""Generator: partial passes, sizes, bad input; tests/test_golden.py has the official outputs."""

from __future__ import annotations

import copy

import pytest
import torch

from vidinv.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator

SMALL = StyleGAN2Config(32, channel_base=256, channel_max=16, z_dim=24, w_dim=24)


@pytest.fixture(scope="module")
def small_generator() -> StyleGAN2Generator:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(SMALL).eval()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return generator


@torch.no_grad()
@pytest.mark.parametrize("stop", range(1, SMALL.num_layers + 1))
def test_resuming_a_stopped_pass_equals_one_pass(small_generator, stop):
    latents = torch.randn(2, SMALL.num_ws, SMALL.w_dim)
    state = small_generator.synthesis.run(latents, stop=stop)
    assert state.layer == stop
    assert state.features_NCHW.shape[1:] == SMALL.feature_shape(stop)
    resumed = small_generator.synthesis(latents, start=state)
    assert torch.equal(resumed, small_generator.synthesis(latents))


@torch.no_grad()
def test_a_pass_in_many_parts_equals_one_pass(small_generator):
    latents = torch.randn(2, SMALL.num_ws, SMALL.w_dim)
    state = None
    for stop in range(1, SMALL.num_layers + 1):
        state = small_generator.synthesis.run(latents, stop=stop, start=state)
    assert torch.equal(state.image_N3HW, small_generator.synthesis(latents))


@torch.no_grad()
@pytest.mark.parametrize(("stop", "side"), [(1, 4), (2, 4), (3, 8), (4, 8), (5, 16), (6, 16)])
def test_the_skip_of_a_stopped_pass_ends_with_the_last_finished_block(small_generator, stop, side):
    state = small_generator.synthesis.run(torch.randn(1, SMALL.num_ws, SMALL.w_dim), stop=stop)
    assert state.image_N3HW.shape == (1, 3, side, side)


@torch.no_grad()
def test_replaced_features_change_the_picture_but_not_the_skip(small_generator):
    latents = torch.randn(1, SMALL.num_ws, SMALL.w_dim)
    for stop in range(1, SMALL.num_layers):
        state = small_generator.synthesis.run(latents, stop=stop)
        other = state.replace_features(state.features_NCHW + 1)
        assert torch.equal(other.image_N3HW, state.image_N3HW)
        changed = small_generator.synthesis(latents, start=other)
        assert (changed - small_generator.synthesis(latents)).abs().max() > 0.01


@pytest.mark.parametrize(("start", "stop"), [(None, 0), (None, 8), (5, 4)])
def test_layers_that_there_are_not_are_refused(small_generator, start, stop):
    latents = torch.randn(1, SMALL.num_ws, SMALL.w_dim)
    state = start and small_generator.synthesis.run(latents, stop=start)
    with pytest.raises(ValueError, match=r"layer to stop after must be in [15]\.\.7, got"):
        small_generator.synthesis.run(latents, stop=stop, start=state)


def test_features_of_another_shape_are_refused(small_generator):
    state = small_generator.synthesis.run(torch.randn(1, SMALL.num_ws, SMALL.w_dim), stop=3)
    with pytest.raises(ValueError, match="features must be"):
        state.replace_features(torch.zeros(1, 16, 4, 4))


@torch.no_grad()
def test_zero_weight_residuals_equal_shared_weights(small_generator):
    """The grouped per-sample path and the fast shared path compute the same picture."""
    latents = torch.randn(3, SMALL.num_ws, SMALL.w_dim)
    weights = small_generator.synthesis.layer_weights()
    zeros = {name: torch.zeros(3, *weight.shape) for name, weight in weights.items()}
    expected = small_generator.synthesis(latents)
    actual = small_generator.synthesis(latents, weight_residuals=zeros)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    zeros["b16.conv0"] = zeros["b16.conv0"].clone()
    zeros["b16.conv0"][1] += 0.5
    changed = small_generator.synthesis(latents, weight_residuals=zeros)
    difference = (changed - expected).abs().amax(dim=(1, 2, 3))
    assert difference[1] > 1e-3
    assert difference[0] < 1e-5
    assert difference[2] < 1e-5


def test_layer_weights_and_styles_are_those_of_the_layers(small_generator):
    weights = small_generator.synthesis.layer_weights()
    assert set(weights) == set(SMALL.style_channels)
    for name, weight in weights.items():
        layer = small_generator.synthesis.get_submodule(name)
        assert weight is layer.weight
        assert SMALL.style_channels[name] == weight.shape[1] == layer.affine.weight.shape[0]


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL.style_channels)
def test_style_offsets_are_what_a_changed_affine_bias_gives(small_generator, name):
    """StyleSpace: the offset joins what the layer's affine gives, for every kind of layer."""
    latents = torch.randn(2, SMALL.num_ws, SMALL.w_dim)
    before = small_generator.synthesis(latents)
    offset = torch.randn(SMALL.style_channels[name])
    changed = copy.deepcopy(small_generator)
    affine = changed.synthesis.get_submodule(name).affine
    affine.bias += offset / affine.bias_gain
    expected = changed.synthesis(latents)
    assert (expected - before).abs().max() > 1e-3
    for given in (offset, offset.expand(2, -1)):
        actual = small_generator.synthesis(latents, style_offsets={name: given})
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    first = torch.stack([offset, torch.zeros_like(offset)])
    mixed = small_generator.synthesis(latents, style_offsets={name: first})
    torch.testing.assert_close(mixed[0], expected[0], rtol=0, atol=1e-5)
    assert torch.equal(mixed[1], before[1])


@pytest.mark.parametrize("kind", ["weight_residuals", "style_offsets"])
def test_a_layer_that_there_is_not_is_refused(small_generator, kind):
    latents = torch.randn(1, SMALL.num_ws, SMALL.w_dim)
    with pytest.raises(ValueError, match=r"there is no layer 'b4\.conv0'"):
        small_generator.synthesis(latents, **{kind: {"b4.conv0": torch.zeros(1)}})


def test_config_f_at_1024_has_the_published_sizes():
    config = StyleGAN2Config(1024)
    assert config.num_ws == 18
    assert config.num_layers == 17
    assert [config.feature_shape(k) for k in (1, 4, 5, 17)] == [
        *[(512, 4, 4), (512, 16, 16), (512, 16, 16), (32, 1024, 1024)]
    ]
    assert [config.layer_after(r) for r in (4, 8, 16, 1024)] == [1, 3, 5, 17]
    assert len(config.style_channels) == 26  # the layers of StyleSpace
    assert [config.channels(r) for r in (4, 64, 128, 1024)] == [512, 512, 256, 32]
    with torch.device("meta"):
        generator = StyleGAN2Generator(config)
    parameters = sum(p.numel() for p in generator.parameters())
    assert parameters == 30_370_060  # printed by NVIDIA's training log for config-f at 1024


def test_odd_resolutions_are_refused():
    with pytest.raises(ValueError, match="power of two"):
        StyleGAN2Config(96)


def test_sizes_that_there_are_not_are_refused():
    for layer in (0, SMALL.num_layers + 1):
        with pytest.raises(ValueError, match=rf"layer must be in 1\.\.7, got {layer}"):
            SMALL.feature_shape(layer)
    for resolution in (2, 12, 64):
        with pytest.raises(ValueError, match=rf"must be one of .*, got {resolution}"):
            SMALL.layer_after(resolution)


def test_classes_are_refused(small_generator):
    with pytest.raises(ValueError, match="not class-conditional"):
        small_generator.mapping(torch.zeros(1, SMALL.z_dim), classes_N=torch.zeros(1).long())


def test_wrong_number_of_latent_rows_is_refused(small_generator):
    with pytest.raises(ValueError, match="8 rows, got 5"):
        small_generator.synthesis(torch.zeros(1, 5, SMALL.w_dim))
