"""Start a training run.

    python -m training KIND --config FILE --out FOLDER [--resume] [--dry-run] [--ray]

KIND is gan, encoder, editor (a pack's generator and fse), stylegan (a generator from z, or a pack's
mapping), hyper, rectifier, psp, adaptive (more methods for a pack), directions (the pack of a
finished run), refit (a pack whose own directions are fitted anew), method or mapping (a pack with
one of those methods, or with that mapping).

One process per worker, one thread each; a run that was stopped goes on with ``--resume``.
``--dry-run`` says what a run would take, and writes nothing. A fault is one line.
Workers may also be started by ``torchrun --nproc-per-node N -m training KIND ...`` or, with
``--ray``, by Ray Train.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from training.adaptive import AdaptiveStage, AdaptiveTask
from training.compute import choose_device
from training.config import load_yaml
from training.data import load
from training.feature_editor import FeatureEditorTask
from training.feature_style import EncoderConfig, FeatureStyleTask
from training.gan import GanConfig, GanTask
from training.group import check_gpus, join, launched_size, leave
from training.hyper import HyperStage, HyperTask
from training.loop import Loop, TrainingTask
from training.pack_stage import PackStageConfig
from training.psp import PspStage, PspTask
from training.rectifier import RectifierStage, RectifierTask
from training.rehearsal import rehearse
from training.request import TrainingRequest
from training.stylegan import StyleGanStage, StyleGanTask
from training.worker_errors import own_error
from vidinv.errors import UsageError, VidinvError

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
    "refit": "training.refit_directions",
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


def run(request: TrainingRequest) -> None:
    """One worker of a run; it belongs to its group already, if there are several."""
    torch.set_num_threads(1)
    config, task = build(request.kind, request.config)
    loop = Loop(task, load(request.data, task.resolution), config.loop, request.out)
    if request.resume:
        loop.resume()
    loop.run()


def worker(rank: int, request: TrainingRequest, size: int, on_gpu: bool) -> None:
    """Body of one process of a run that started its own."""
    end_with_parent()
    rendezvous = f"file://{request.out.resolve()}/rendezvous"
    join(rank, size, local_rank=rank, rendezvous=rendezvous, on_gpu=on_gpu)
    run(request)


def end_with_parent() -> None:
    """End this process when the one that started it is gone, killed without a word or not.

    Workers would otherwise go on by themselves, unseen, and share the cores with the next run.
    """
    if (parent := mp.parent_process()) is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def train(request: TrainingRequest) -> None:
    """Start the workers and wait for the end of the run; under ``torchrun``, be one of them.

    Raises:
        UsageError: a faulty experiment file, options that do not go together, or a folder that
            holds another run.
        VidinvError: a worker's own.
    """
    _check_options(request)
    if request.kind in WRITERS:
        # Imported here: they need dlib, which GPU machines lack.
        importlib.import_module(WRITERS[request.kind]).build(request)
        return
    loop = load_yaml(KINDS[request.kind][0], request.config).loop
    if not request.data.is_dir():
        raise UsageError(
            f"{request.data} does not exist; make it with: "
            f"python -m training.data FACES {request.data}"
        )
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if request.dry_run:
        torch.set_num_threads(1)
        config, task = build(request.kind, request.config)
        data = load(request.data, task.resolution)
        print("\n".join(rehearse(task, data, config.loop, request.out)))
        return
    if (request.out / "latest.pt").exists() and not request.resume:
        raise UsageError(f"{request.out} holds a run already: --resume goes on with it")
    request.out.mkdir(parents=True, exist_ok=True)
    if request.ray:
        from training.on_ray import train_on_ray

        train_on_ray(request, loop.workers, loop.device)
        return
    on_gpu = choose_device(loop.device).type == "cuda"
    if size := launched_size():
        _train_as_launched(request, loop.workers, size, on_gpu)
    elif loop.workers == 1:
        run(request)
    else:
        if on_gpu:
            check_gpus(loop.workers)
        _train_in_processes(request, loop.workers, on_gpu)


def _check_options(request: TrainingRequest) -> None:
    """UsageError where one option would silently win over another."""
    how = {"--resume": request.resume, "--ray": request.ray, "--dry-run": request.dry_run}
    given = [name for name, is_given in how.items() if is_given]
    if launched_size():
        given.append("torchrun")
    if request.kind in WRITERS and given:
        raise UsageError(f"{request.kind} writes a pack in this process: leave out {given[0]}")
    if request.dry_run and len(given) > 1:
        other = next(name for name in given if name != "--dry-run")
        raise UsageError(f"--dry-run takes its steps in this process: leave out {other}")
    if request.ray and launched_size():
        raise UsageError("either torchrun or --ray starts the workers")


def _train_in_processes(request: TrainingRequest, workers: int, on_gpu: bool) -> None:
    (request.out / "rendezvous").unlink(missing_ok=True)
    try:
        mp.spawn(worker, args=(request, workers, on_gpu), nprocs=workers)
    except mp.ProcessRaisedException as error:
        if (own := own_error(str(error))) is None:
            raise
        raise own from None


def _train_as_launched(request: TrainingRequest, workers: int, size: int, on_gpu: bool) -> None:
    if size != workers:
        raise UsageError(
            f"{request.config}: loop.workers is {workers}, but torchrun started {size}: "
            "a step has the images of all workers, so the file must say how many there are"
        )
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    rank = int(os.environ["RANK"])
    if on_gpu:
        check_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    join(rank, size, local_rank=local_rank, rendezvous="env://", on_gpu=on_gpu)
    run(request)
    leave()


def main() -> None:
    """Parse arguments, start the run; what went wrong is one line on stderr, as of ``vidinv``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, *WRITERS])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data/faces"))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--ray", action="store_true")
    try:
        train(TrainingRequest(**vars(parser.parse_args())))
    except (VidinvError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
