"""``vidinv batch`` as it is typed, but with what runs it, or the workers of it, given by a test."""

from __future__ import annotations

from functools import partial

from pipelines.batch.driver import run as run_batch
from vidinv.cli import build_parser, run_command
from vidinv.cli.batch import batch


def batch_by(run, arguments):
    """Exit code of the command line ``arguments`` ("batch", ...) where ``run`` takes requests."""
    options = build_parser().parse_args([str(argument) for argument in arguments])
    options.command = partial(batch, run=run)
    return run_command(options)


def batch_with(start_workers, arguments):
    """The same with the run itself, and workers of ``start_workers(request, settings)``."""
    return batch_by(partial(run_batch, start_workers=start_workers), arguments)
