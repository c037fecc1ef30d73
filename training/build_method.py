"""A pack with one more method: the weights that a stage on it trained (training.pack_stage).

    vidinv train method --config configs/faces128_rectify.yaml --out PACK

writes a copy of the pack that the stage was trained on into PACK, which is not there yet: the
method's weights in float16, its entry in pack.json, and what it measures on validation faces there
under ``metrics.methods``. A method of the same name is replaced.

An encoder of the w stage or F stage that learned on the pack's own generator (``learning_rate`` 0)
takes the place of the pack's ``fse``. Directions are then to be fitted anew
(training.refit_directions), and methods that start from its latents to be trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.config import load_yaml
from training.data import load
from training.gan import GanTask
from training.method_rows import unfitted
from training.pack_stage import PackTask
from training.reconstruction import reconstruction_row
from training.request import TrainingRequest
from training.start import KINDS
from vidinv.errors import UsageError
from vidinv.generators.base import Generator
from vidinv.packs import DEFAULT_PACK, load_pack
from vidinv.packs.format import copy_with_method


@dataclass(frozen=True)
class MethodConfig:
    """What is added.

    Attributes:
        kind: of training, a stage on a pack as ``"rectifier"``.
        stage: its experiment file.
        run: its folder, or its weights.
        pack: that an encoder of the w stage or F stage goes into; the others name theirs.
        every: measures every n-th validation face; 1 for a pack that is kept.
    """

    kind: str
    stage: str
    run: str
    pack: str = DEFAULT_PACK
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
    config_type, task_type = KINDS[settings.kind]
    task = task_type(load_yaml(config_type, Path(settings.stage)))
    if not isinstance(task, PackTask | GanTask):
        raise UsageError(f"{request.config}: kind: {settings.kind} makes a pack, no method of one")
    task.initialise(Path(settings.run))
    entry = task.pack_entry()
    if isinstance(task, PackTask):
        files = task.pack.files
    else:
        pack = load_pack(settings.pack)
        if not same_synthesis(pack.generator, task.generator):
            raise UsageError(
                f"{settings.run} changed the generator of {pack.name}, or has another: "
                "vidinv train directions makes a pack of it"
            )
        files = pack.files
        # How edits use the feature code is the pack's to say.
        entry = {**files.meta["methods"].get(task.method, {}), **entry}
    data = load(request.data, task.resolution)
    # First without figures: what is measured are the weights as they are stored.
    copy_with_method(files, request.out, task.method, entry, task.pack_tensors())
    pack = load_pack(request.out)
    faces = data.val_indices[:: settings.every]
    row = reconstruction_row(unfitted(pack, task.method), pack.generator, data, faces)
    pack.files.add_metrics("methods", {task.method: row})
    return row


def same_synthesis(ours: Generator, theirs: Generator) -> bool:
    """Whether two generators make the same picture of every w."""
    pair = (ours.synthesis, theirs.synthesis)
    a, b = (synthesis.state_dict() for synthesis in pair if isinstance(synthesis, nn.Module))
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
