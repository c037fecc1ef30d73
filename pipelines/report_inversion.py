"""How well the inversion alone reproduces a face: PSNR, SSIM and, where it can be had, LPIPS."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidinv.faces import extract_crop
from vidinv.metrics import psnr_batch, ssim_batch
from vidinv.metrics.image import SSIM_WINDOW
from vidinv.report.model import FrameRow
from vidinv.stages import as_float_rgb, to_tensor
from vidinv.types import Crop, Image

# LPIPS takes its backbone from torchvision's cache; a report never downloads.
_BACKBONE = "alexnet-owt-7be5be79.pth"


class InversionMeter:
    """Compares the aligned crop of the inversion with the source's, at the pack's own size.

    Attributes:
        notes: what could not be measured, and why.
    """

    def __init__(self, resolution: int) -> None:
        self._resolution = resolution
        self.notes: list[str] = []
        reason = lpips_absent()
        self._lpips = None if reason else _load_lpips()
        if reason:
            self.notes.append(f"LPIPS is absent: {reason}")

    @torch.inference_mode()
    def measure(self, row: FrameRow, crop: Crop, pictures: dict[str, Image]) -> None:
        """Fill in the row's figures of the inversion."""
        source, inverted = (
            to_tensor(as_float_rgb(extract_crop(pictures[name], crop, self._resolution))[None])
            for name in ("source", "inversion")
        )
        row.psnr_inversion = _finite(float(psnr_batch(inverted, source)))
        if self._resolution >= SSIM_WINDOW:
            row.ssim_inversion = float(ssim_batch(inverted, source))
        if self._lpips is not None:
            row.lpips_inversion = float(self._lpips(inverted, source))


def lpips_absent() -> str:
    """Why LPIPS cannot be computed without a download; empty where it can."""
    if importlib.util.find_spec("lpips") is None:
        return "the lpips package is not installed (pip install 'vidinv[train]')"
    path = Path(torch.hub.get_dir()) / "checkpoints" / _BACKBONE
    return "" if path.is_file() else f"its backbone is not in the torch cache ({path.name})"


def _load_lpips() -> Any:
    import lpips

    return lpips.LPIPS(net="alex", verbose=False).eval()


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
