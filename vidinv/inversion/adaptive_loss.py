"""What adaptive-block encoders are trained and fine-tuned by (Yu et al., eqs. 2 to 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from vidinv.inversion.attention import Attend
from vidinv.inversion.perceptual import Distance
from vidinv.metrics import ssim_batch

MSE, COSINE, PERCEPTUAL, STRUCTURE = 5.0, 3.0, 2.0, 1.0  # eq. 3
MAX_PX = 256  # pictures are halved down to this before LPIPS and SSIM, as in the public code
FINE_TUNING = 0.375, 0.625
"""mu_1 and mu_2 of eq. 2."""
STRATEGIES = {"s1": (1.0, 1.0), "s2": (5.0, 9.0)}
"""The same while an encoder is trained (section 4.3)."""


@dataclass(frozen=True)
class ImageLoss:
    """Eqs. 2 and 3: two batches of pictures ``[N, 3, R, R]`` -> ``[N]``.

    Attributes:
        distance: in the place of LPIPS.
        attend: AT1 and AT2.
        weights: mu_1 and mu_2.
        structure: SSIM counts (table 7 has rows without).
    """

    distance: Distance
    attend: Attend
    weights: tuple[float, float] = FINE_TUNING
    structure: bool = True

    def __call__(self, picture_N3RR: Tensor, source_N3RR: Tensor) -> Tensor:
        loss = self.difference(picture_N3RR, source_N3RR)
        views = self.attend(source_N3RR, picture_N3RR)
        if not views:
            return loss
        for weight, (source, picture) in zip(self.weights, views, strict=True):
            loss = loss + weight * self.difference(picture, source)
        return loss

    def difference(self, picture_N3RR: Tensor, source_N3RR: Tensor) -> Tensor:
        """Eq. 3 of one view."""
        pixels = vector_difference(picture_N3RR, source_N3RR)
        small = [_halved(x) for x in (picture_N3RR, source_N3RR)]
        loss = pixels + PERCEPTUAL * self.distance(*small)
        return loss + STRUCTURE * (1 - ssim_batch(*small)) if self.structure else loss


def latent_loss(
    latents_NLD: Tensor,
    others_NLD: Tensor,
    codes: Mapping[str, Tensor],
    other_codes: Mapping[str, Tensor],
) -> Tensor:
    """Eq. 5, ``[N]``: eq. 4 of the latents, and of z_c where there is one."""
    loss = vector_difference(latents_NLD, others_NLD)
    for name, code in codes.items():
        loss = loss + vector_difference(code, other_codes[name])
    return loss


def vector_difference(x: Tensor, y: Tensor) -> Tensor:
    """Eq. 4, ``[N]``: mean square and cosine of all numbers of a sample."""
    x, y = x.flatten(1), y.flatten(1)
    square = (x - y).square().mean(dim=1)
    return MSE * square + COSINE * (1 - F.cosine_similarity(x, y, dim=1))


def _halved(images_N3HW: Tensor) -> Tensor:
    while images_N3HW.shape[-1] > MAX_PX:
        images_N3HW = F.avg_pool2d(images_N3HW, 2)
    return images_N3HW
