"""Start a training run.

    python -m training KIND --config FILE --out FOLDER [--resume]

KIND is gan, encoder, editor (a pack's generator and fse), stylegan (a generator from z, or a pack's
mapping), hyper, rectifier, psp, adaptive (more methods for a pack), directions (the pack of a
finished run), method or mapping (a pack with one of those methods, or with that mapping).

One process per worker, one thread each; a run that was stopped goes on with ``--resume``.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from training.adaptive import AdaptiveStage, AdaptiveTask
from training.config import load_yaml
from training.data import load
from training.feature_editor import FeatureEditorTask
from training.feature_style import EncoderConfig, FeatureStyleTask
from training.gan import GanConfig, GanTask
from training.hyper import HyperStage, HyperTask
from training.loop import Loop, TrainingTask
from training.pack_stage import PackStageConfig
from training.psp import PspStage, PspTask
from training.rectifier import RectifierStage, RectifierTask
from training.request import TrainingRequest
from training.stylegan import StyleGanStage, StyleGanTask
from vidinv.errors import UsageError

StageConfig = GanConfig | StyleGanStage | PackStageConfig
# What trains, and what writes a pack.
KINDS: dict[str, tuple[type[StageConfig], Callable[[Any], TrainingTask]]] = {
    "gan": (GanConfig, GanTask),
    "encoder": (EncoderConfig, FeatureStyleTask),
    "editor": (EncoderConfig, FeatureEditorTask),
    "stylegan": (StyleGanStage, StyleGanTask),
    "hyper": (HyperStage, HyperTask),
    "rectifier": (RectifierStage, RectifierTask),
    "psp": (PspStage, PspTask),
    "adaptive": (AdaptiveStage, AdaptiveTask),
}
WRITERS = {
    "directions": "training.build_pack",
    "method": "training.build_method",
    "mapping": "training.build_mapping",
}


def build(kind: str, path: Path) -> tuple[StageConfig, TrainingTask]:
    """A task from its YAML file, initialised from the stage before where one is named."""
    config_type, task_type = KINDS[kind]
    config = load_yaml(config_type, path)
    torch.manual_seed(config.loop.seed)
    task = task_type(config)
    if config.init:
        task.initialise(Path(config.init))
        if isinstance(task, GanTask) and task.config.init_resolution:
            task.grow_from(task.config.init_resolution)
    return config, task


def worker(rank: int, request: TrainingRequest) -> None:
    """Body of one worker process."""
    torch.set_num_threads(1)
    config, task = build(request.kind, request.config)
    workers = config.loop.workers
    if workers > 1:
        store = f"file://{request.out.resolve()}/rendezvous"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=workers)
    loop = Loop(task, load(request.data, task.resolution), config.loop, request.out)
    if request.resume:
        loop.resume()
    loop.run()


def train(request: TrainingRequest) -> None:
    """Start the workers and wait for the end of the run.

    Raises:
        UsageError: a faulty experiment file, or a folder that holds another run.
    """
    if request.kind in WRITERS:
        # Imported here: they need dlib, which GPU machines lack.
        importlib.import_module(WRITERS[request.kind]).build(request)
        return
    config = load_yaml(KINDS[request.kind][0], request.config)
    if (request.out / "latest.pt").exists() and not request.resume:
        raise UsageError(f"{request.out} holds a run already: --resume goes on with it")
    data = request.data
    if not data.is_dir():
        raise UsageError(
            f"{data} does not exist; make it with: python -m training.data FACES {data}"
        )
    request.out.mkdir(parents=True, exist_ok=True)
    (request.out / "rendezvous").unlink(missing_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if config.loop.workers == 1:
        worker(0, request)
    else:
        build(request.kind, request.config)  # a fault is said here, in one line
        mp.spawn(worker, args=(request,), nprocs=config.loop.workers)


def main() -> None:
    """Parse arguments, start the run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, *WRITERS])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data/faces"))
    parser.add_argument("--resume", action="store_true")
    train(TrainingRequest(**vars(parser.parse_args())))
