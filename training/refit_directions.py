"""A pack with directions of its own fitted anew: faces are encoded by its ``fse``, all else stays.

    vidinv train refit --config configs/faces128_refit.yaml --out PACK

writes a copy of a pack into PACK, which is not there yet: vectors, outlines and measured effects of
the named directions are new (training.calibration). No run of training is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from training.build_pack import METER_FACES, OUTLINE_FACES
from training.calibration import (
    EDITS,
    AttributeMeter,
    ComposedFaces,
    calibrate,
    measured_outlines,
    with_irises_kept,
)
from training.config import load_yaml
from training.data import load
from training.fit_directions import encode_all, named_directions
from training.loop import make_batch
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
    if request.out.exists():
        raise UsageError(f"{request.out} is there already: a new pack needs a new folder")
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
    w = encode_all(inverter.encoder, data, train)
    meter = AttributeMeter(data, train[:: max(1, len(train) // METER_FACES)])
    rng, most = np.random.default_rng(0), len(data.val_indices)
    if not 1 <= settings.calibration_faces <= most:
        raise UsageError(f"{request.config}: calibration_faces must be in 1..{most}")
    chosen = rng.choice(data.val_indices, settings.calibration_faces, replace=False)
    faces = ComposedFaces(inverter, data, load(request.data, 128), chosen)
    rows = with_irises_kept(faces, named_directions(w, data, train), meter, w)
    scaled, effects = calibrate(faces, {n: rows[n] for n in settings.directions}, meter, w)
    some = rng.choice(train, min(OUTLINE_FACES, len(train)), replace=False)
    outlines = measured_outlines(inverter, meter.faces, make_batch(data, some).images, scaled)
    entries = {name: pack.meta["directions"]["entries"][name] for name in scaled}
    copy_with_directions(pack.files, request.out, entries, {**scaled, **outlines})
    load_pack(request.out).files.add_metrics("effects_at_strength_1", effects)
    return effects
