"""Feature editor: what becomes of F - G^K(w) when the latents are edited.

Eq. 1 of the Feature-Style paper adds the same residual r = F - G^K(w) to G^K(w~): what F holds of
the source stays in place, the old lips under a new smile too. As in StyleFeatureEditor (Bobkov et
al., CVPR 2024) a small network sees r and the change d = G^K(w~) - G^K(w) and gives the residual
that suits the edit:

    r~ = r + n(r, d) - n(r, 0),    F~ = G^K(w~) + r~

so that no edit changes nothing, whatever was learned, and the last layer, zero at first, starts
training from eq. 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureEditor(nn.Module):
    """n(r, d): three convolutions over residual and change at the resolution of layer K.

    Args:
        channels: of the generator's features after layer K.
        width: channels inside.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, channels, 3, padding=1, bias=False)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            nn.Conv2d(2 * channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            last,
        )

    def forward(self, residual_NCHW: Tensor, change_NCHW: Tensor) -> Tensor:
        """r~ of the shape of r; equal to r where the change is zero everywhere."""
        edited = self._network(residual_NCHW, change_NCHW)
        unedited = self._network(residual_NCHW, torch.zeros_like(change_NCHW))
        return residual_NCHW + (edited - unedited)

    def _network(self, residual_NCHW: Tensor, change_NCHW: Tensor) -> Tensor:
        return self.layers(torch.cat([residual_NCHW, change_NCHW], dim=1))
