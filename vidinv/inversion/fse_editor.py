"""Feature editor: what becomes of F - G^K(w) when the latents are edited.

Eq. 1 of the Feature-Style paper adds the same residual r = F - G^K(w) to G^K(w~): what F holds of
the source stays in place, the old lips under a new smile and the old profile of a turned head. As
in StyleFeatureEditor (Bobkov et al., CVPR 2024) a small network n sees r and the change
d = G^K(w~) - G^K(w) and gives the residual that suits the edit. Ours moves it with the face, keeps
a share of it and adds to it: with the outputs of n(r, d) - n(r, 0) as flow f (in cells), gate g and
addition a,

    r~(p) = 2 sigmoid(g(p)) r(p + f(p)) + a(p),    F~ = G^K(w~) + r~

so that no edit changes nothing, whatever was learned, and the last layer, zero at first, starts
training from eq. 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FeatureEditor(nn.Module):
    """n(r, d): three convolutions over residual and change at the resolution of layer K.

    Args:
        channels: of the generator's features after layer K.
        width: channels inside.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        last = nn.Conv2d(width, channels + 3, 3, padding=1, bias=False)
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
        addition, flow, gate = (edited - unedited).split([self.channels, 2, 1], dim=1)
        moved = residual_NCHW + (_sample(residual_NCHW, flow) - _sample(residual_NCHW, 0 * flow))
        return 2 * torch.sigmoid(gate) * moved + addition

    def _network(self, residual_NCHW: Tensor, change_NCHW: Tensor) -> Tensor:
        return self.layers(torch.cat([residual_NCHW, change_NCHW], dim=1))


def _sample(features_NCHW: Tensor, flow_N2HW: Tensor) -> Tensor:
    """Features at p + flow(p), bilinear, the border repeated."""
    height, width = features_NCHW.shape[-2:]
    rows = torch.arange(height, dtype=flow_N2HW.dtype, device=flow_N2HW.device)
    columns = torch.arange(width, dtype=flow_N2HW.dtype, device=flow_N2HW.device)
    x = (columns + flow_N2HW[:, 0] + 0.5) * (2 / width) - 1
    y = (rows[:, None] + flow_N2HW[:, 1] + 0.5) * (2 / height) - 1
    grid = torch.stack([x, y], dim=-1)
    return F.grid_sample(features_NCHW, grid, padding_mode="border", align_corners=False)
