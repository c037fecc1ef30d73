"""Measures of edited clips: picture quality, perceptual distance, flicker, identity over time.

Reports use those of batches, pairs and neighbouring frames; ``psnr``, ``masked_psnr``, ``flicker``
and ``tl_id`` are the same measures of whole pictures and clips, for use from Python.
"""

from vidinv.metrics.identity import identity_consistency, similarity, tg_id, tl_id, tl_id_of_pairs
from vidinv.metrics.image import masked_psnr, ms_ssim_batch, psnr, psnr_batch, ssim_batch
from vidinv.metrics.lpips import LPIPS, lpips_absent
from vidinv.metrics.temporal import NeighbourDifference, flicker

__all__ = [
    "LPIPS",
    "NeighbourDifference",
    "flicker",
    "identity_consistency",
    "lpips_absent",
    "masked_psnr",
    "ms_ssim_batch",
    "psnr",
    "psnr_batch",
    "similarity",
    "ssim_batch",
    "tg_id",
    "tl_id",
    "tl_id_of_pairs",
]
