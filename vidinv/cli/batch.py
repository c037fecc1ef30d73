"""``vidinv batch``: many clips, on this machine or a Ray cluster."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidinv.cli.options import (
    Commands,
    add_attributes,
    add_command,
    add_inversion,
    add_model_options,
    credentials_of,
    encode_options,
    method_options,
)
from vidinv.cli.output import EXIT_QUARANTINED, print_json, say
from vidinv.interrupts import interrupts_later, sigterm_interrupts

if TYPE_CHECKING:
    from pipelines.batch.request.batch_request import BatchRequest
    from pipelines.batch.request.estimate import Estimate
    from pipelines.batch.request.result import BatchResult

    BatchRun = Callable[[BatchRequest], BatchResult]


def add_batch(commands: Commands) -> None:
    """Declare ``vidinv batch``."""
    parser = add_command(
        commands, "batch", "edit many clips, on this machine or a Ray cluster", batch
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="clips, pictures, folders, globs, or CSV/JSONL manifests (input, output, attributes, "
        "strength, face); paths or URLs: s3://, gs://, https://, zip://a.mp4::file:///x.zip",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the outputs"
    )
    add_attributes(parser)
    add_model_options(parser)
    parser.add_argument(
        "--address",
        default=None,
        metavar="auto|HOST:PORT",
        help="Ray cluster to join (default: Ray is started on this machine)",
    )
    parser.add_argument(
        "--workers", type=int, default=None, metavar="N", help="processes (default: one a CPU)"
    )
    parser.add_argument(
        "--gpu-workers",
        type=int,
        default=None,
        metavar="N",
        help="processes with a GPU (default: one a GPU)",
    )
    parser.add_argument(
        "--worker-cpus",
        type=float,
        default=None,
        metavar="CPUS",
        help="CPUs that a worker reserves (default: 0.5)",
    )
    parser.add_argument(
        "--dashboard", action="store_true", help="start Ray's dashboard and print its address"
    )
    parser.add_argument("--report", action="store_true", help="compare each clip with its source")
    add_inversion(parser)
    parser.add_argument("--resume", action="store_true", help="do what an earlier run left")
    parser.add_argument("--restart", action="store_true", help="do all of it again")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and do nothing")
    parser.add_argument(
        "--segment-frames",
        type=int,
        default=None,
        metavar="N",
        help="about so many frames in a unit of work",
    )
    parser.add_argument(
        "--stall-seconds",
        type=float,
        default=None,
        metavar="SECONDS",
        help="a worker that finishes no frame for so long is replaced",
    )


def batch(options: argparse.Namespace, *, run: BatchRun | None = None) -> int:
    """``vidinv batch``: 3 when some clips were quarantined.

    Args:
        run: what does it; None is the run on Ray.
    """
    sigterm_interrupts()
    with interrupts_later():  # inside the import of torch they would crash the process
        from pipelines.batch import driver

    request = _batch_request(options)
    if options.dry_run:
        _print_estimate(options, driver.estimate(request, tell=_line_printer(options)))
        return 0
    try:
        # Ray tells of dead workers on standard output, which belongs to --json; the log has it.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            result = (run or driver.run)(request)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("--resume does what is missing") from None
    if options.json:
        _print_json_of_done(result.as_dict())
    return EXIT_QUARANTINED if result.quarantined or result.without_report else 0


def _print_json_of_done(data: Mapping[str, Any]) -> None:
    """A reader that is gone, or a full disk, makes nothing of the run undone."""
    try:
        print_json(data)
        sys.stdout.flush()
    except OSError as error:
        say(f"the JSON could not be printed: {error}")
        # What is left in its buffer would fail once more at the end of the process.
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _line_printer(options: argparse.Namespace) -> Callable[[str], None]:
    """The plan is what a dry run is for: with --json it goes where progress goes."""
    if not options.json:
        return partial(print, flush=True)
    return (lambda line: None) if options.quiet else partial(print, file=sys.stderr)


def _print_estimate(options: argparse.Namespace, estimate: Estimate) -> None:
    _line_printer(options)(estimate.summary())
    if options.json:
        print_json(estimate.as_dict())


def _batch_request(options: argparse.Namespace) -> BatchRequest:
    from pipelines.batch.request.batch_request import BatchRequest
    from vidinv.editing.schedules import parse_attributes
    from vidinv.editing.time_range import time_range
    from vidinv.packs import DEFAULT_PACK

    optional = ("segment_frames", "stall_seconds", "worker_cpus")
    return BatchRequest(
        inputs=options.inputs,
        output=options.output,
        attributes=parse_attributes(options.attr),
        face=options.face,
        method=options.method,
        method_options=method_options(options),
        pack=options.pack or DEFAULT_PACK,
        detail=not options.no_detail,
        occlusion=options.occlusion,
        seed=options.seed,
        within=time_range(options.start, options.end),
        device=options.device,
        landmarks=options.landmarks,
        encode=encode_options(options),
        on_error=options.on_error,
        address=options.address,
        report=options.report,
        inversion=options.inversion,
        resume=options.resume,
        restart=options.restart,
        latents=options.latents,
        credentials=credentials_of(options),
        num_workers=options.workers,
        num_gpu_workers=options.gpu_workers,
        dashboard=options.dashboard,
        quiet=options.quiet,
        **{name: value for name in optional if (value := getattr(options, name)) is not None},
    )
