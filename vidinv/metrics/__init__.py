"""Measures of edited clips: picture quality, flicker, identity over time."""

from vidinv.metrics.identity import identity_consistency, similarity, tg_id, tl_id, tl_id_of_pairs
from vidinv.metrics.image import masked_psnr, psnr, psnr_batch, ssim_batch
from vidinv.metrics.temporal import NeighbourDifference, flicker

__all__ = [
    "NeighbourDifference",
    "flicker",
    "identity_consistency",
    "masked_psnr",
    "psnr",
    "psnr_batch",
    "similarity",
    "ssim_batch",
    "tg_id",
    "tl_id",
    "tl_id_of_pairs",
]
