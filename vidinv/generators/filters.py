"""Low-pass filters of StyleGAN3 (Karras et al. 2021, appendix C.1): Kaiser windows, 1-D or radial.

Sampling rates and cutoffs are in cycles per side of the picture.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def low_pass(
    num_taps: int, *, cutoff: float, width: float, sampling_rate: float, radial: bool = False
) -> Tensor | None:
    """``[taps]``, or ``[taps, taps]`` for a radial one; None for one tap, which filters nothing.

    Args:
        width: of the transition band.
    """
    if num_taps == 1:
        return None
    places = (np.arange(num_taps) - (num_taps - 1) / 2) / sampling_rate
    attenuation_db = 2.285 * (num_taps - 1) * math.pi * width / (sampling_rate / 2) + 7.95
    window = np.kaiser(num_taps, _kaiser_beta(attenuation_db))
    if radial:
        radius = np.hypot(*np.meshgrid(places, places))
        bessel = torch.special.bessel_j1(torch.from_numpy(2 * cutoff * math.pi * radius)).numpy()
        kernel = bessel / (math.pi * radius) * np.outer(window, window)
    else:
        kernel = np.sinc(2 * cutoff * places) * window
    return torch.from_numpy((kernel / kernel.sum()).astype(np.float32))


def _kaiser_beta(attenuation_db: float) -> float:
    """Kaiser's formula for the shape of the window."""
    if attenuation_db > 50:
        return 0.1102 * (attenuation_db - 8.7)
    if attenuation_db > 21:
        return 0.5842 * (attenuation_db - 21) ** 0.4 + 0.07886 * (attenuation_db - 21)
    return 0.0
