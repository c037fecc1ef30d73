"""Feature-Style: eq. 1 of the paper for every K, sizes of the encoder, older names of weights."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.packs.tiny import write_tiny_pack
from vidinv.errors import PackError
from vidinv.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from vidinv.generators.stylegan3 import StyleGAN3Config, StyleGAN3Generator
from vidinv.inversion.fse import FeatureStyleInverter
from vidinv.inversion.fse_encoder import FeatureStyleConfig, FeatureStyleEncoder
from vidinv.inversion.fse_published import PublishedConfig, PublishedEncoder
from vidinv.packs import load_pack
from vidinv.types import EditedLatents, Inversion

GENERATOR = StyleGAN2Config(32, channel_base=256, channel_max=16, z_dim=8, w_dim=8)
LAYERS = [
    *["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1", "b32.conv0", "b32.conv1"]
]  # by K, from 1


def encoder_config(layer: int) -> FeatureStyleConfig:
    """Reads 32 px, or as much as the first stage needs to be at F's resolution."""
    side = max(32, 2 * GENERATOR.feature_shape(layer)[-1])
    widths, blocks = (4, 8, 8, 8), (1, 1, 1, 1)
    return FeatureStyleConfig(side, widths, blocks, feature_layer=layer, feature_width=4)


@pytest.fixture(scope="module")
def generator() -> StyleGAN2Generator:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(GENERATOR).eval()
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return generator


@torch.no_grad()
def output_of(generator: StyleGAN2Generator, layer: str, latents: Tensor) -> Tensor:
    """G^K(w), recorded while the whole network runs."""
    outputs: list[Tensor] = []
    module = generator.synthesis.get_submodule(layer)
    hook = module.register_forward_hook(lambda *call: outputs.append(call[-1].clone()))
    generator.synthesis(latents)
    hook.remove()
    (output,) = outputs
    return output


@torch.no_grad()
def picture_with(
    generator: StyleGAN2Generator, following: str | None, features: Tensor, latents: Tensor
) -> Tensor:
    """A whole pass in which the convolution after layer K reads ``features`` instead."""
    if following is None:  # F comes in after the last layer: nothing reads it
        return generator.synthesis(latents)
    module = generator.synthesis.get_submodule(following)
    hook = module.register_forward_pre_hook(lambda _, inputs: (features, *inputs[1:]))
    picture = generator.synthesis(latents)
    hook.remove()
    return picture


@pytest.mark.parametrize("layer", range(1, len(LAYERS) + 1))
def test_rendering_follows_eq_1_of_the_paper(generator, layer):
    """F~ = F + G^K(w~) - G^K(w), naively: whole passes, layer K recorded, the next one fed."""
    torch.manual_seed(layer)
    encoder = FeatureStyleEncoder(encoder_config(layer), GENERATOR).eval()
    nn.init.normal_(encoder.feature_head.expand.weight, std=0.3)
    inverter = FeatureStyleInverter(generator, encoder)
    side = encoder.config.input_resolution
    inversion = inverter.encode(torch.randn(2, 3, side, side))
    w = inversion.latents_NLD
    edited = w + torch.randn(2, GENERATOR.num_ws, 8)
    own = output_of(generator, LAYERS[layer - 1], w)
    features = own + inversion.codes["features"]  # F, which an Inversion keeps as F - G^K(w)
    following = LAYERS[layer] if layer < len(LAYERS) else None
    assert features.shape[1:] == GENERATOR.feature_shape(layer)
    for latents in (w, edited):
        moved = features + output_of(generator, LAYERS[layer - 1], latents) - own
        expected = picture_with(generator, following, moved, latents)
        actual = inverter.render(inversion, EditedLatents(latents))
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
        if following is not None:
            without = inverter.render(Inversion(latents), EditedLatents(latents))
            assert (actual - without).abs().max() > 1e-3


@pytest.mark.parametrize("layer", [2, 5])
def test_style_mixing_takes_the_features_of_one_and_the_latents_of_the_other(generator, layer):
    """Figures 7 and 20: G(w_B, F_A), with F_A in the place of layer K's output."""
    torch.manual_seed(layer)
    encoder = FeatureStyleEncoder(encoder_config(layer), GENERATOR).eval()
    nn.init.normal_(encoder.feature_head.expand.weight, std=0.3)
    inverter = FeatureStyleInverter(generator, encoder)
    side = encoder.config.input_resolution
    first, second = (inverter.encode(torch.randn(1, 3, side, side)) for _ in range(2))
    features = output_of(generator, LAYERS[layer - 1], first.latents_NLD) + first.codes["features"]
    expected = picture_with(generator, LAYERS[layer], features, second.latents_NLD)
    mixed = inverter.mix(features_of=first, latents_of=second)
    actual = inverter.render(mixed, mixed.unedited)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def with_editor() -> FeatureStyleEncoder:
    torch.manual_seed(0)
    config = dataclasses.replace(encoder_config(5), editor_width=6)
    encoder = FeatureStyleEncoder(config, GENERATOR).eval()
    nn.init.normal_(encoder.feature_head.expand.weight, std=0.3)
    return encoder


def cells_at(features_CHW: np.ndarray, flow_2HW: np.ndarray) -> np.ndarray:
    """Bilinear features at p + flow(p) by OpenCV, the border repeated."""
    height, width = flow_2HW.shape[1:]
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    x, y = (flow_2HW + np.stack([columns, rows])).astype(np.float32)
    planes = [cv2.remap(f, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
              for f in features_CHW]  # fmt: skip
    return np.stack(planes)


def test_a_feature_editor_says_what_becomes_of_the_residual(generator):
    """F~ = G^K(w~) + r~(r, d) with d = G^K(w~) - G^K(w), naively."""
    encoder = with_editor()
    editor = encoder.feature_editor
    nn.init.normal_(editor.layers[-1].weight, std=0.3)
    inverter = FeatureStyleInverter(generator, encoder)
    inversion = inverter.encode(torch.randn(2, 3, 32, 32))
    w, residual = inversion.latents_NLD, inversion.codes["features"]
    edited = w + torch.randn(2, GENERATOR.num_ws, 8)
    before, after = (output_of(generator, LAYERS[4], latents) for latents in (w, edited))
    n = [editor.layers(torch.cat([residual, d], 1)) for d in (after - before, 0 * before)]
    addition, flow, gate = (n[0] - n[1]).split([residual.shape[1], 2, 1], dim=1)
    moved = np.stack(
        [cells_at(r, f) for r, f in zip(residual.numpy(), flow.detach().numpy(), strict=True)]
    )
    features = after + 2 * torch.sigmoid(gate) * torch.from_numpy(moved) + addition
    expected = picture_with(generator, LAYERS[5], features, edited)
    actual = inverter.render(inversion, EditedLatents(edited))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)

    by_eq_1 = FeatureStyleInverter(generator, encoder, edit_rule="eq1")
    assert (by_eq_1.render(inversion, EditedLatents(edited)) - actual).abs().max() > 1e-2
    for rule in (inverter, by_eq_1):  # no edit changes nothing
        unedited = rule.render(inversion, inversion.unedited)
        expected = picture_with(generator, LAYERS[5], before + residual, w)
        torch.testing.assert_close(unedited, expected, rtol=0, atol=1e-5)


def test_an_untrained_feature_editor_is_eq_1(generator):
    encoder = with_editor()
    inversion = FeatureStyleInverter(generator, encoder).encode(torch.randn(1, 3, 32, 32))
    edited = EditedLatents(inversion.latents_NLD + 1)
    first, second = (
        FeatureStyleInverter(generator, encoder, edit_rule=rule).render(inversion, edited)
        for rule in ("editor", "eq1")
    )
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="edit_rule"):
        FeatureStyleInverter(generator, encoder, edit_rule="eq2")


@pytest.mark.parametrize("knob", [{"edit_rule": "eq2"}, {"edit_feature_scale": "much"}])
def test_a_knob_of_a_pack_that_is_none_is_one_line(tmp_path, knob):
    pack = load_pack(write_tiny_pack(tmp_path / "p", fse=knob))
    with pytest.raises(PackError, match=r"^pack tiny: fse: .*(eq2|much)"):
        pack.inverter("fse")


@pytest.mark.parametrize(
    ("resolution", "layer"), [(4, 1), (8, 3), (16, 5), (32, 7)], ids=lambda value: str(value)
)
def test_older_packs_name_the_resolution_of_the_block(resolution, layer):
    config = FeatureStyleConfig(feature_resolution=resolution)
    assert config == FeatureStyleConfig(feature_layer=layer)
    assert dataclasses.asdict(config)["feature_layer"] == layer
    assert "feature_resolution" not in dataclasses.asdict(config)
    assert dataclasses.replace(config, feature_width=6).feature_layer == layer


def test_a_layer_that_no_stage_reaches_is_refused():
    config = FeatureStyleConfig(256, (4, 4, 4, 4), (1, 1, 1, 1), feature_layer=1)
    with pytest.raises(ValueError, match=r"reaches the resolution 4 of feature layer 1"):
        FeatureStyleEncoder(config, GENERATOR)


def test_weights_under_their_older_names_are_loaded():
    encoder = FeatureStyleEncoder(encoder_config(5), GENERATOR)
    state = encoder.state_dict()
    older = {
        key.replace("head.project.", "head.look.").replace("head.fuse.", "head.compare."): value
        for key, value in state.items()
    }
    assert any(".look." in key for key in older)
    assert any(".compare." in key for key in older)
    again = FeatureStyleEncoder(encoder_config(5), GENERATOR)
    again.load_state_dict(older)
    assert any(".look." in key for key in older)  # what was given is not changed
    for key, value in again.state_dict().items():
        assert torch.equal(value, state[key])
    with pytest.raises(RuntimeError, match=r"feature_head\.project"):
        again.load_state_dict({k: v for k, v in older.items() if ".look." not in k})


@pytest.mark.parametrize(("layer", "stride"), [(4, 2), (5, 2), (6, 1), (7, 1)])
def test_the_published_encoder_follows_eq_1_for_every_k(generator, layer, stride):
    """K of 4 and 5 at 16 px, of 6 and 7 at 32 px (the supplement's table of K)."""
    torch.manual_seed(layer)
    sizes = {"widths": (4, 4, 8, 8), "blocks": (1, 1, 1, 1)}
    config = PublishedConfig(**sizes, feature_layer=layer, feature_stride=stride)
    encoder = PublishedEncoder(config, GENERATOR).eval().requires_grad_(False)
    inverter = FeatureStyleInverter(generator, encoder)
    faces = torch.randn(1, 3, 512, 512)
    inversion = inverter.encode(faces)
    w, features = inversion.latents_NLD, encoder(faces)[1]
    edited = w + torch.randn(1, GENERATOR.num_ws, 8)
    before, after = (output_of(generator, LAYERS[layer - 1], latents) for latents in (w, edited))
    following = LAYERS[layer] if layer < len(LAYERS) else None
    expected = picture_with(generator, following, features + after - before, edited)
    actual = inverter.render(inversion, EditedLatents(edited))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


def test_a_layer_and_a_stride_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"F after layer 7 is 32 px, and the encoder's 16"):
        PublishedEncoder(PublishedConfig(feature_layer=7), GENERATOR)
    with pytest.raises(ValueError, match="trunk must be"):
        PublishedConfig(trunk="vgg")


@pytest.mark.parametrize("radial", [False, True], ids=["t", "r"])
@torch.no_grad()
def test_stylegan3_takes_f_where_the_picture_is_and_keeps_its_own_margin(radial):
    torch.manual_seed(0)
    sizes = StyleGAN3Config(64, 512, 8, 8, 8, conv_kernel=1 if radial else 3, radial_filters=radial)
    generator = StyleGAN3Generator(sizes).eval()
    layer = next(k for k in range(1, 15) if sizes.feature_shape(k)[1] == 36)
    assert sizes.feature_margin(layer) == 10
    config = FeatureStyleConfig(
        32, (4, 8, 8, 8), (1, 1, 1, 1), latent_space="w+", feature_layer=layer, feature_width=4
    )
    encoder = FeatureStyleEncoder(config, sizes).eval()
    nn.init.normal_(encoder.feature_head.expand.weight, std=0.3)
    inverter = FeatureStyleInverter(generator, encoder)
    faces = torch.randn(2, 3, 64, 64)
    inversion = inverter.encode(faces)
    residual = inversion.codes["features"]
    assert residual.shape[-1] == 36
    assert residual[..., 10:26, 10:26].abs().min() > 0
    assert not residual[..., :10, :].any()
    edited = inversion.latents_NLD + torch.randn(2, sizes.num_ws, 8)
    state = generator.synthesis.run(edited, stop=layer)
    state = state.replace_features(state.features_NCHW + residual)
    expected = generator.synthesis(edited, start=state)
    actual = inverter.render(inversion, EditedLatents(edited))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    assert (actual - generator.synthesis(edited)).abs().max() > 1e-3

    one, other = inverter.encode(faces[:1]), inverter.encode(faces[1:])
    mixed = inverter.mix(features_of=one, latents_of=other)
    lower = generator.synthesis.run(one.latents_NLD, stop=layer)
    features = lower.features_NCHW + one.codes["features"]
    start = generator.synthesis.run(other.latents_NLD, stop=layer).replace_features(features)
    expected = generator.synthesis(other.latents_NLD, start=start)
    torch.testing.assert_close(inverter.render(mixed, mixed.unedited), expected, atol=1e-5, rtol=0)
