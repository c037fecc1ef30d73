"""What the default pack's methods give beyond the latents that they start from, on photographs."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vidinv.metrics import psnr_batch
from vidinv.packs import Pack, load_pack

EVERY = 1500


@pytest.fixture(scope="module")
def photographs(shared_dir) -> Tensor:
    """``[10, 3, 128, 128]`` in [-1, 1], evenly from all."""
    with zipfile.ZipFile(shared_dir / "faces" / "faces128.zip") as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        pictures = [
            np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
            for name in names[::EVERY]
        ]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack("faces-128")


# Measured on 1,584 faces: rectify 5.5 dB over G(w), hyper 0.5.
@pytest.mark.parametrize(("method", "least_db"), [("fse", 5.0), ("rectify", 3.5), ("hyper", 0.2)])
def test_the_second_phase_comes_nearer_to_the_photograph(pack, photographs, method, least_db):
    inverter = pack.inverter(method)
    inversion = inverter.encode(photographs)
    first = pack.generator.synthesis(inversion.latents_NLD)
    made = inverter.render(inversion, inversion.unedited)
    gain = psnr_batch(made, photographs) - psnr_batch(first, photographs)
    assert float(gain.mean()) > least_db


def test_tuning_brings_the_adaptive_encoder_nearer_to_the_person(pack, photographs):
    inverter = pack.with_options("adaptive", {"steps": 40}).inverter("adaptive")
    untuned = pack.with_options("adaptive", {"steps": 0}).inverter("adaptive")
    person = photographs[3:5]
    state = inverter.fit(person)
    tuned, before = inverter.encode(person, state), untuned.encode(person)
    made = [
        inverter.render(tuned, tuned.unedited, state),
        untuned.render(before, before.unedited),
    ]
    after, plain = (float(psnr_batch(picture, person).mean()) for picture in made)
    assert plain > 15
    assert after > plain + 1.0
