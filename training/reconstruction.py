"""How well a method of a pack gives back validation faces: a row of its figures.

For a pack that is built or gains a method, and for ``python -m training.evaluate``. Pictures are
the networks' own at the pack's size, without detail transfer.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.data import FaceArrays
from training.loop import make_batch
from training.losses import psnr, sharpness
from training.terms import IdentityTerm, View
from vidinv.generators.base import Generator
from vidinv.inversion import Inverter
from vidinv.metrics import ssim_batch

BATCH = 16


def reconstruction_row(
    inverter: Inverter, generator: Generator, data: FaceArrays, indices: np.ndarray
) -> dict[str, float]:
    """Means of PSNR, SSIM (Gaussian window) and gradient energy over faces by index.

    ``_w`` is G(w) of the same latents; ``identity`` the median distance of dlib's embeddings of
    picture and source, in tight crops.
    """
    judge = IdentityTerm()
    rows: dict[str, list[Tensor]] = {}
    synthesis = generator.synthesis
    with torch.inference_mode():
        for start in range(0, len(indices), BATCH):
            images = make_batch(data, indices[start : start + BATCH]).images
            inversion = inverter.encode(images)
            made = {
                "": inverter.render(inversion, inversion.unedited),
                "_w": synthesis(inversion.latents_NLD),
            }
            for suffix, picture in made.items():
                picture = picture.clamp(-1, 1)
                measured = {
                    "psnr": psnr(picture, images),
                    "ssim": ssim_batch(picture, images),
                    "sharpness": torch.tensor([sharpness(picture, images)] * len(images)),
                    "identity": judge.embedding_distance(View(picture), View(images)),
                }
                for name, values in measured.items():
                    rows.setdefault(name + suffix, []).append(values)
    joined = {name: torch.cat(values) for name, values in rows.items()}
    return {
        name: round(float(values.median() if "identity" in name else values.mean()), 3)
        for name, values in joined.items()
    }
