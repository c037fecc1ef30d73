"""Start a training run: ``python -m training gan|encoder --config FILE --out FOLDER [--resume]``.

One process per worker, one thread each; a run that was stopped goes on with ``--resume``.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from training.config import load_yaml
from training.data import load
from training.encoders import EncoderConfig, FeatureStyleTask
from training.gan import GanConfig, GanTask
from training.loop import Loop


KINDS: dict[str, tuple[type[GanConfig], type[GanTask]]] = {
    "gan": (GanConfig, GanTask),
    "encoder": (EncoderConfig, FeatureStyleTask),
}


def build(kind: str, path: Path) -> tuple[GanConfig, GanTask]:
    """A task from its YAML file, initialised from the stage before where one is named."""
    config_type, task_type = KINDS[kind]
    config = load_yaml(config_type, path)
    torch.manual_seed(config.loop.seed)
    task = task_type(config)
    if config.init:
        task.initialise(Path(config.init))
        if config.init_resolution:
            task.grow_from(config.init_resolution)
    return config, task


def worker(rank: int, arguments: argparse.Namespace) -> None:
    """Body of one worker process."""
    torch.set_num_threads(1)
    config, task = build(arguments.kind, arguments.config)
    workers = config.loop.workers
    if workers > 1:
        store = f"file://{arguments.out.resolve()}/rendezvous"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=workers)
    loop = Loop(task, load(arguments.data, config.train_resolution), config.loop, arguments.out)
    if arguments.resume:
        loop.resume()
    loop.run()


def main() -> None:
    """Parse arguments, start the workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data/faces"))
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "rendezvous").unlink(missing_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    workers = load_yaml(KINDS[arguments.kind][0], arguments.config).loop.workers
    mp.spawn(worker, args=(arguments,), nprocs=workers)

