"""A pack whose mapping network was trained (training.stylegan, ``learns: mapping``).

    vidinv train mapping --config configs/faces128_mapping.yaml --out PACK

writes a copy of the pack that the stage was trained on into PACK, which is not there yet: the
averaged mapping in float16 in its generator's file, and FID and KID of its samples under
``metrics.samples``. All else is the pack's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.config import load_yaml
from training.data import load
from training.request import TrainingRequest
from training.samples import NUM_SAMPLES, samples_row, train_features
from training.start import build as build_stage
from training.stylegan import StyleGanTask, set_mean_w
from vidinv.errors import UsageError
from vidinv.metrics import efficientnet
from vidinv.packs import load_pack
from vidinv.packs.format import copy_with_mapping


@dataclass(frozen=True)
class MappingConfig:
    """What is taken over.

    Attributes:
        stage: its experiment file.
        run: its folder, or its weights.
        count: samples that are measured.
        every: they are measured against every n-th training face; 1 for a pack that is kept.
    """

    stage: str
    run: str
    count: int = NUM_SAMPLES
    every: int = 1


def build(request: TrainingRequest) -> dict[str, Any]:
    """Write the pack into ``request.out``; returns what was measured.

    Raises:
        UsageError: the folder is there already, or the stage learned more than a pack's mapping.
    """
    settings = load_yaml(MappingConfig, request.config)
    request.check_new_pack()
    _, task = build_stage("stylegan", Path(settings.stage))
    assert isinstance(task, StyleGanTask)
    if task.config.learns != "mapping" or not task.config.pack:
        raise UsageError(f"{settings.stage}: it must have a pack, and learns: mapping")
    task.initialise(Path(settings.run))
    mapping = task.generator.mapping
    assert isinstance(mapping, nn.Module)
    _round(mapping)
    set_mean_w(task.generator)
    faces = train_features(load(request.data, task.resolution), settings.every)
    row = {
        "features": efficientnet.NAME,
        "samples": settings.count,
        "faces": len(faces),
        **samples_row(task.generator, faces, count=settings.count),
    }
    copy_with_mapping(load_pack(task.config.pack).files, request.out, mapping.state_dict(), row)
    return row


@torch.no_grad()
def _round(mapping: nn.Module) -> None:
    """To what a pack stores, so that what is measured is what is written."""
    for parameter in mapping.parameters():
        parameter.copy_(parameter.half())
