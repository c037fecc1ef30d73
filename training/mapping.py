"""The mapping network of an autoencoded generator: z -> w with the distribution of encoded faces.

An autoencoder needs no mapping, a StyleGAN has one (samples, truncation, ``make demo``). Ours is
set in closed form to the Gaussian that has the mean and covariance of the encoder's latents of the
training faces: with large biases every leaky ReLU works on its linear side, and the latent space is
first shifted so that w itself is positive (the affine layers take the shift back). Learning it, by
sliced Wasserstein distance or by regression, missed most of the variance in a minute of training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidinv.generators.base import Generator
from vidinv.generators.layers import LRELU_GAIN, Linear
from vidinv.inversion.fse_encoder import FeatureStyleEncoder

LINEAR_SIGMAS = 5.0  # biases this many standard deviations up keep activations positive


@torch.no_grad()
def set_gaussian_mapping(generator: Generator, encoder: FeatureStyleEncoder, w_MD: Tensor) -> None:
    """Set ``generator.mapping`` from encoded faces ``[M, D]``; generator and encoder are shifted.

    The mapping must be of StyleGAN's kind: fully connected layers with leaky ReLU, and ``w_avg``.

    Raises:
        ValueError: another mapping, z and w of different width, or fewer than two layers.
    """
    mapping = generator.mapping
    assert isinstance(mapping, nn.Module)
    layers = [layer for layer in mapping.children() if isinstance(layer, Linear)]
    if generator.z_dim != generator.w_dim or len(layers) < 2:
        raise ValueError("a Gaussian mapping needs z_dim = w_dim and at least two linear layers")
    mean, spread = w_MD.mean(dim=0), w_MD.std(dim=0)
    shift = (LINEAR_SIGMAS * spread - mean).clamp(min=0)
    shift_latent_space(generator, encoder, shift)
    mean = mean + shift
    values, axes = torch.linalg.eigh(torch.cov(w_MD.T))
    root = axes @ torch.diag(values.clamp(min=0).sqrt()) @ axes.T
    identity = torch.eye(generator.w_dim, device=w_MD.device)
    lift = torch.full_like(mean, LINEAR_SIGMAS)
    _set(layers[0], identity, lift)
    for layer in layers[1:-1]:
        _set(layer, identity / LRELU_GAIN, torch.zeros_like(lift))
    _set(layers[-1], root / LRELU_GAIN**2, (mean - root @ lift) / LRELU_GAIN)
    mapping.get_buffer("w_avg").copy_(mean)


@torch.no_grad()
def shift_latent_space(generator: Generator, encoder: FeatureStyleEncoder, shift_D: Tensor) -> None:
    """Add a constant to every w without changing a picture: encoder and affine layers take it up.

    Affine weights are rounded to float16 first, as a pack stores them, so that the shift cancels
    exactly there.
    """
    encoder.w_offset.add_(shift_D)
    assert isinstance(generator.synthesis, nn.Module)
    for name, module in generator.synthesis.named_modules():
        if name.endswith("affine") and isinstance(module, Linear):
            module.weight.copy_(module.weight.half().float())
            module.bias.sub_(module.weight @ shift_D * (module.weight_gain / module.bias_gain))


def _set(layer: Linear, weight: Tensor, bias: Tensor) -> None:
    layer.weight.copy_(weight / layer.weight_gain)
    layer.bias.copy_(bias / layer.bias_gain)
