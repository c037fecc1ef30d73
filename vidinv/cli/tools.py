"""Commands on this installation: ``train``, ``doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidinv.cli.options import Commands, add_command

KINDS = (
    *("gan", "encoder", "editor", "stylegan", "hyper", "rectifier", "psp", "adaptive"),
    *("directions", "refit", "method", "mapping"),
)


def add_train(commands: Commands) -> None:
    """Declare ``vidinv train``."""
    parser = add_command(commands, "train", "train the models of a pack (docs/TRAINING.md)", train)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--config", type=Path, required=True, help="a file of configs/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--data", type=Path, default=Path("data/faces"), help="prepared faces")
    parser.add_argument("--resume", action="store_true", help="go on from the run's checkpoint")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what the run would take; write nothing"
    )
    parser.add_argument("--ray", action="store_true", help="workers of Ray Train (docs/CLUSTER.md)")


def train(options: argparse.Namespace) -> None:
    """``vidinv train``."""
    from training.request import TrainingRequest
    from training.start import train as run_training

    request = TrainingRequest(
        options.kind,
        options.config,
        options.out,
        options.data,
        resume=options.resume,
        dry_run=options.dry_run,
        ray=options.ray,
    )
    run_training(request)


def doctor(options: argparse.Namespace) -> None:
    """``vidinv doctor``."""
    from vidinv.doctor import report

    for line in report():
        print(line)
