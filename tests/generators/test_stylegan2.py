"""Generator and discriminator: parity with the official code, partial passes, sizes, bad input."""

from __future__ import annotations

import pytest
import torch

from tests.golden import GoldenCase
from vidinv.generators.discriminator import Discriminator
from vidinv.generators.stylegan2 import Generator, StyleGAN2Config

SMALL = StyleGAN2Config(32, channel_base=256, channel_max=16, z_dim=24, w_dim=24)


@pytest.fixture(scope="module")
def golden_generator(shared_dir):
    case = GoldenCase(shared_dir / "golden", "02_nvidia_sg2ada_g64")
    generator = Generator(StyleGAN2Config(64)).eval()
    generator.load_state_dict(case.state("G_ema"))
    return case, generator


def assert_golden(case: GoldenCase, name: str, actual: torch.Tensor) -> None:
    torch.testing.assert_close(actual, case.output(name), rtol=0, atol=case.atol(name))


@torch.no_grad()
def test_synthesis_equals_official_code(golden_generator):
    case, generator = golden_generator
    latents = case.latent("sg2ada64.ws", [1, 10, 512])
    assert_golden(case, "image_ws", generator.synthesis(latents))
    assert_golden(case, "image_ws_noise_none", generator.synthesis(latents, noise_mode="none"))


@torch.no_grad()
def test_mapping_and_truncation_equal_official_code(golden_generator):
    case, generator = golden_generator
    z = case.latent("sg2ada64.z", [2, 512])
    assert_golden(case, "ws_from_z", generator.mapping(z))
    assert_golden(case, "image_z", generator(z))
    assert_golden(case, "image_z0_psi0.7", generator(z[:1], truncation=0.7))


@torch.no_grad()
def test_discriminator_equals_official_code(shared_dir):
    case = GoldenCase(shared_dir / "golden", "02_nvidia_sg2ada_d64")
    discriminator = Discriminator(StyleGAN2Config(64)).eval()
    (network,) = case.description["networks"]
    discriminator.load_state_dict(case.state(network))
    images = case.image("sg2ada64.d_img", [4, 3, 64, 64])
    assert_golden(case, "logits_batch4", discriminator(images))
    single = torch.cat([discriminator(image[None]) for image in images])
    assert_golden(case, "logits_single", single)


@pytest.fixture(scope="module")
def small_generator() -> Generator:
    torch.manual_seed(0)
    generator = Generator(SMALL).eval()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return generator


@torch.no_grad()
@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_resuming_a_stopped_pass_equals_one_pass(small_generator, resolution):
    latents = torch.randn(2, SMALL.num_ws, SMALL.w_dim)
    state = small_generator.synthesis.run(latents, stop=resolution)
    resumed = small_generator.synthesis(latents, start=state)
    torch.testing.assert_close(resumed, small_generator.synthesis(latents), rtol=0, atol=1e-6)


@torch.no_grad()
def test_replaced_features_change_the_picture_but_not_the_skip(small_generator):
    latents = torch.randn(1, SMALL.num_ws, SMALL.w_dim)
    state = small_generator.synthesis.run(latents, stop=8)
    other = state.replace_features(state.features_NCHW + 1)
    assert torch.equal(other.image_N3HW, state.image_N3HW)
    changed = small_generator.synthesis(latents, start=other)
    assert (changed - small_generator.synthesis(latents)).abs().max() > 0.01


def test_features_of_another_shape_are_refused(small_generator):
    state = small_generator.synthesis.run(torch.randn(1, SMALL.num_ws, SMALL.w_dim), stop=8)
    with pytest.raises(ValueError, match="features must be"):
        state.replace_features(torch.zeros(1, 16, 4, 4))


@torch.no_grad()
def test_zero_weight_residuals_equal_shared_weights(small_generator):
    """The grouped per-sample path and the fast shared path compute the same picture."""
    latents = torch.randn(3, SMALL.num_ws, SMALL.w_dim)
    shapes = {
        f"b{r}.{layer}": getattr(getattr(small_generator.synthesis, f"b{r}"), layer).weight.shape
        for r in SMALL.resolutions
        for layer in ("conv0", "conv1", "torgb")
        if hasattr(getattr(small_generator.synthesis, f"b{r}"), layer)
    }
    zeros = {name: torch.zeros(3, *shape) for name, shape in shapes.items()}
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


def test_config_f_at_1024_has_the_published_sizes():
    config = StyleGAN2Config(1024)
    assert config.num_ws == 18
    assert [config.channels(r) for r in (4, 64, 128, 1024)] == [512, 512, 256, 32]
    with torch.device("meta"):
        generator = Generator(config)
    parameters = sum(p.numel() for p in generator.parameters())
    assert parameters == 30_370_060  # printed by NVIDIA's training log for config-f at 1024


def test_odd_resolutions_are_refused():
    with pytest.raises(ValueError, match="power of two"):
        StyleGAN2Config(96)


def test_wrong_number_of_latent_rows_is_refused(small_generator):
    with pytest.raises(ValueError, match="8 rows, got 5"):
        small_generator.synthesis(torch.zeros(1, 5, SMALL.w_dim))
