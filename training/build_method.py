"""A pack with one more method: the weights that a stage on it trained (training.pack_stage).

    vidinv train method --config configs/faces128_rectify.yaml --out PACK

writes a copy of the pack that the stage was trained on into PACK, which is not there yet: the
method's weights in float16, its entry in pack.json, and what it measures on validation faces there
under ``metrics.methods``. A method of the same name is replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.config import load_yaml
from training.data import load
from training.method_rows import unfitted
from training.pack_stage import PackTask
from training.reconstruction import reconstruction_row
from training.request import TrainingRequest
from training.start import KINDS
from training.start import build as build_stage
from vidinv.errors import UsageError
from vidinv.packs import load_pack
from vidinv.packs.format import copy_with_method


@dataclass(frozen=True)
class MethodConfig:
    """What is added.

    Attributes:
        kind: of training, a stage on a pack as ``"rectifier"``.
        stage: its experiment file.
        run: its folder, or its weights.
        every: measures every n-th validation face; 1 for a pack that is kept.
    """

    kind: str
    stage: str
    run: str
    every: int = 1


def build(request: TrainingRequest) -> dict[str, Any]:
    """Write the pack into ``request.out``; returns what was measured.

    Raises:
        UsageError: the folder is there already, or this kind of training makes no method.
    """
    settings = load_yaml(MethodConfig, request.config)
    request.check_new_pack()
    if settings.kind not in KINDS:
        raise UsageError(f"{request.config}: kind: {settings.kind!r} is not known to training")
    _, task = build_stage(settings.kind, Path(settings.stage))
    if not isinstance(task, PackTask):
        raise UsageError(f"{request.config}: kind: {settings.kind} makes a pack, no method of one")
    task.initialise(Path(settings.run))
    data = load(request.data, task.resolution)
    entry, files = task.pack_entry(), task.pack.files
    # First without figures: what is measured are the weights as they are stored.
    copy_with_method(files, request.out, task.method, entry, task.pack_tensors())
    pack = load_pack(request.out)
    faces = data.val_indices[:: settings.every]
    row = reconstruction_row(unfitted(pack, task.method), pack.generator, data, faces)
    pack.files.add_metrics("methods", {task.method: row})
    return row
