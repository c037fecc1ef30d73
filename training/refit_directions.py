"""A pack with directions of its own fitted anew: faces are encoded by its ``fse``, all else stays.

    vidinv train refit --config configs/faces128_refit.yaml --out PACK

writes a copy of a pack into PACK, which is not there yet: vectors, outlines and measured effects of
the named directions are new (training.calibration). No run of training is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.calibration import EDITS, fit_and_calibrate
from training.config import load_yaml
from training.data import load
from training.request import TrainingRequest
from vidinv.errors import UnknownNameError, UsageError
from vidinv.inversion.fse import FeatureStyleInverter
from vidinv.inversion.fse_encoder import FeatureStyleEncoder
from vidinv.packs import load_pack
from vidinv.packs.format import copy_with_directions


@dataclass(frozen=True)
class RefitConfig:
    """What is fitted.

    Attributes:
        pack: its name or folder.
        directions: names.
        every: use every n-th face, for a quick look; 1 for a pack that is kept.
        calibration_faces: validation faces whose pictures are measured.
    """

    pack: str
    directions: tuple[str, ...]
    every: int = 1
    calibration_faces: int = 48


def build(request: TrainingRequest) -> dict[str, Any]:
    """Write the pack into ``request.out``; returns the effects at strength 1.

    Raises:
        UsageError: the folder is there already, or a direction that is not fitted here.
    """
    settings = load_yaml(RefitConfig, request.config)
    request.check_new_pack()
    pack = load_pack(settings.pack)
    known = [name for name in EDITS if name in pack.meta["directions"]["entries"]]
    for name in settings.directions:
        if name not in known:
            raise UnknownNameError(f"direction fitted here in pack {pack.name}", name, known)
    inverter = pack.inverter("fse")
    assert isinstance(inverter, FeatureStyleInverter)
    if not isinstance(inverter.encoder, FeatureStyleEncoder):
        raise UsageError(f"pack {pack.name}: directions are fitted with encoders trained here")
    data = load(request.data, pack.resolution)
    train = data.train_indices[:: settings.every]
    most = len(data.val_indices)
    if not 1 <= settings.calibration_faces <= most:
        raise UsageError(f"{request.config}: calibration_faces must be in 1..{most}")
    fitted = fit_and_calibrate(
        inverter,
        inverter.encoder,
        data,
        load(request.data, 128),
        train=train,
        calibration_faces=settings.calibration_faces,
        names=settings.directions,
        rng=np.random.default_rng(0),
    )
    entries = {name: pack.meta["directions"]["entries"][name] for name in settings.directions}
    copy_with_directions(pack.files, request.out, entries, fitted.vectors)
    load_pack(request.out).files.add_metrics("effects_at_strength_1", fitted.effects)
    return fitted.effects
