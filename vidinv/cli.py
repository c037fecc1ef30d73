"""The command line: ``vidinv edit clip.mp4 -o out.mp4 --attr smile`` (options: README.md).

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a batch with quarantined clips or failed reports, 130
interrupted. A failure is one line on stderr; ``--debug`` shows the traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidinv.errors import UsageError, VidinvError
from vidinv.files import one_line, printable_values
from vidinv.interrupts import ignore_interrupts, interrupts_later
from vidinv.inversion import METHODS
from vidinv.version import __version__

if TYPE_CHECKING:
    from pipelines.batch.request.batch_request import BatchRequest
    from pipelines.batch.request.estimate import Estimate
    from pipelines.batch.request.result import BatchResult
    from pipelines.meter import Progress
    from vidinv.types import ClipResult

    BatchRun = Callable[[BatchRequest], BatchResult]

EXIT_FAILED, EXIT_USAGE, EXIT_QUARANTINED, EXIT_INTERRUPTED = 1, 2, 3, 130
Command = Callable[[argparse.Namespace], int | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _open_missing_streams()
    options = build_parser().parse_args(arguments)
    return run_command(options, ends_process=arguments is None)


def run_command(options: argparse.Namespace, *, ends_process: bool = False) -> int:
    """Run ``options.command`` and return its exit code; what went wrong is said on stderr.

    Args:
        ends_process: nothing comes after it, so that an interrupt may be the last one heard.
    """
    try:
        code: int | None = options.command(options)
    except UsageError as error:
        return _fail(options, error, EXIT_USAGE)
    except (VidinvError, OSError) as error:
        return _fail(options, error, EXIT_FAILED)
    except KeyboardInterrupt as error:
        if ends_process:  # an impatient second one changes nothing
            ignore_interrupts()
        _say(f"interrupted; {str(error) or 'nothing was written'}")
        return EXIT_INTERRUPTED
    return code or 0


def _fail(options: argparse.Namespace, error: Exception, code: int) -> int:
    if options.debug:
        raise error
    _say(one_line(" ".join(str(error).split())))
    return code


def _say(line: str) -> None:
    """On stderr, where it can be written: the exit code says how the command went."""
    with contextlib.suppress(OSError):
        print(f"vidinv: {line}", file=sys.stderr)


def _open_missing_streams() -> None:
    """Where the process was started without (``2>&-``), Python has None, and Ray refuses."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the whole process


def _print_json(data: Mapping[str, Any]) -> None:
    print(json.dumps(printable_values(data)))


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = argparse.ArgumentParser(
        prog="vidinv", description="Edit faces in video by GAN inversion."
    )
    parser.add_argument("--version", action="version", version=f"vidinv {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_edit(commands)
    _add_invert(commands)
    _add_batch(commands)
    _add_report(commands)
    _add_demo(commands)
    _add_packs(commands)
    _add_directions(commands)
    _add_train(commands)
    _add_bench(commands)
    _add(commands, "doctor", "what this machine has, and what each missing part would give", doctor)
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    command: Command,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + "."
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=command)
    return parser


def _add_edit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "edit", "edit the faces of a clip or picture", edit)
    _add_run_options(parser)
    _add_attributes(parser)


def _add_attributes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attr",
        action="append",
        default=[],
        metavar="NAME[=STRENGTH]",
        help="what to change: smile, smile=-1, or keyframes smile=0:0,2.5:1.5 (seconds:strength); "
        "may be given several times",
    )
    parser.add_argument(
        "--no-detail", action="store_true", help="paste the generator's own picture"
    )


def _add_invert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "invert", "paste back what the inversion alone gives", invert)
    _add_run_options(parser)


def _add_batch(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "batch", "edit many clips, on this machine or a Ray cluster", batch)
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
    _add_attributes(parser)
    _add_model_options(parser)
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
    _add_inversion(parser)
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


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, metavar="INPUT", help="a video or a picture")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUTPUT")
    _add_model_options(parser)
    parser.add_argument(
        "--report", type=Path, default=None, metavar="PATH.html", help="compare with the input"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUTPUT")


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "identity consistency and quality of an edited clip against its source"
    parser = _add(commands, "report", summary, report)
    parser.add_argument("input", type=Path, metavar="INPUT", help="the source")
    parser.add_argument("edited", type=Path, metavar="OUTPUT", help="what was made from it")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PATH.html")
    parser.add_argument("--pack", default=None, metavar="NAME|PATH", help="model pack")
    parser.add_argument(
        "--every",
        type=int,
        default=None,
        metavar="N",
        help="sample the identity of every Nth frame (default: so that it takes about 30 s)",
    )
    _add_inversion(parser)
    _add_method(parser)
    _add_device(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")


def _add_method(parser: argparse.ArgumentParser) -> None:
    methods = "; ".join(f"{name}: {entry.summary}" for name, entry in METHODS.items())
    parser.add_argument(
        "--method",
        default="fse",
        metavar="NAME",
        help=f"inversion method (default: fse). {methods}. Packs have weights for some of them",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        default="auto",
        choices=["auto", "cpu", "cuda"],
        help="where the networks run (default: auto, a GPU where there is one)",
    )


def _add_inversion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--inversion",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="in the report, also invert the source and measure what the inversion alone loses",
    )


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    _add_method(parser)
    parser.add_argument("--pack", default=None, metavar="NAME|PATH", help="model pack")
    parser.add_argument(
        "--face",
        default="largest",
        metavar="WHICH",
        help="largest (default), all, a track's number, or a reference picture",
    )
    _add_device(parser)
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="for methods that draw random numbers (default: 0)",
    )
    parser.add_argument("--encoder", default=None, help="video encoder (default: by container)")
    parser.add_argument("--preset", default=None, help="the encoder's speed preset")
    parser.add_argument("--crf", type=int, default=None, help="constant quality, lower is better")
    parser.add_argument(
        "--latents",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="keep analysis and inversions there; the next edit of the same clips starts from them",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "demo", "make a short clip of a face, edit it, show both", demo)
    parser.add_argument(
        "clip", nargs="?", type=Path, default=None, help="edit this video instead of a made one"
    )
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    parser.add_argument("--attr", default="smile", metavar="NAME", help="default: smile")
    parser.add_argument("--pack", default=None, metavar="NAME|PATH", help="model pack")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")


def _add_packs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("packs", help="list, show or verify model packs")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    _add(actions, "list", "the packs there are", packs_list)
    for name, summary, command in (
        ("show", "the description of a pack", packs_show),
        ("verify", "check the files of a pack against their recorded hashes", packs_verify),
    ):
        action = _add(actions, name, summary, command)
        action.add_argument("pack", nargs="?", default=None, metavar="NAME|PATH")


def _add_directions(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("directions", help="the attributes that a pack can edit")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    action = _add(actions, "list", "attributes, their signs and natural ranges", directions_list)
    action.add_argument("--pack", default=None, metavar="NAME|PATH")


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _add(commands, "train", "train the models of a pack (docs/TRAINING.md)", train)
    parser.add_argument("kind", choices=["gan", "encoder", "editor", "directions"])
    parser.add_argument("--config", type=Path, required=True, help="a file of configs/")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--data", type=Path, default=Path("data/faces"), help="prepared faces")
    parser.add_argument("--resume", action="store_true", help="go on from the run's checkpoint")


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("bench", help="measure this installation")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    action = _add(actions, "speed", "frames per second against the per-frame baseline", bench_speed)
    action.add_argument("clip", nargs="?", type=Path, help="a clip with a face (default: made up)")
    action.add_argument("--pack", default=None, metavar="NAME|PATH")


def edit(options: argparse.Namespace, *, progress: Progress | None = None) -> None:
    """``vidinv edit``.

    Args:
        progress: what follows the run; None draws bars, unless ``--quiet``.
    """
    from vidinv.editing.schedules import parse_attributes

    if not options.attr:
        raise UsageError("nothing to change: give --attr, for instance --attr smile")
    attributes = parse_attributes(options.attr)
    _check_report(options)
    from vidinv import api  # after the checks that need no networks: it takes seconds

    result = api.edit(
        options.input,
        options.output,
        attributes=attributes,
        detail=not options.no_detail,
        **_run_arguments(options, progress),
    )
    _report_run(options, result, inversion=True)
    _print_result(options, result)


def invert(options: argparse.Namespace) -> None:
    """``vidinv invert``."""
    _check_report(options)
    from vidinv import api

    result = api.invert(options.input, options.output, **_run_arguments(options))
    _report_run(options, result, inversion=False)  # it is the output itself
    _print_result(options, result)


def report(options: argparse.Namespace) -> None:
    """``vidinv report``."""
    from pipelines.meter import Progress
    from vidinv import api
    from vidinv.packs import DEFAULT_PACK

    made = api.write_report(
        options.input,
        options.edited,
        options.output,
        pack=options.pack or DEFAULT_PACK,
        every=options.every,
        inversion=options.inversion,
        method=options.method,
        device=options.device,
        overwrite=options.overwrite,
        progress=Progress(quiet=options.quiet),
    )
    if not options.quiet:
        print(f"{options.output}: {made.headline()}", file=sys.stderr)
    if options.json:
        said = made.as_dict()
        _print_json({key: said[key] for key in ("recognition", "summary", "standing_out")})


def _check_report(options: argparse.Namespace) -> None:
    """A page that cannot be written is refused before the work."""
    if options.report is not None:
        from pipelines.report.request import check_page

        check_page(options.report, overwrite=options.overwrite)


def _report_run(options: argparse.Namespace, result: ClipResult, *, inversion: bool) -> None:
    """The report of a run that has just ended."""
    if options.report is None:
        return
    from pipelines.meter import Progress
    from vidinv import api
    from vidinv.packs import DEFAULT_PACK

    made = api.write_report(
        options.input,
        options.output,
        options.report,
        pack=options.pack or DEFAULT_PACK,
        inversion=inversion,
        method=result.method,
        device=options.device,
        edit={**result.attributes, "method": result.method},
        overwrite=options.overwrite,
        progress=Progress(quiet=options.quiet),
    )
    if not options.quiet:
        print(f"{options.report}: {made.headline()}", file=sys.stderr)


def batch(options: argparse.Namespace, *, run: BatchRun | None = None) -> int:
    """``vidinv batch``: 3 when some clips were quarantined.

    Args:
        run: what does it; None is the run on Ray.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended in order, as by Ctrl-C
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
        _print_json(data)
        sys.stdout.flush()
    except OSError as error:
        _say(f"the JSON could not be printed: {error}")
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
        _print_json(estimate.as_dict())


def _batch_request(options: argparse.Namespace) -> BatchRequest:
    from pipelines.batch.request.batch_request import BatchRequest
    from vidinv.editing.schedules import parse_attributes
    from vidinv.packs import DEFAULT_PACK
    from vidinv.video import EncodeOptions

    optional = ("segment_frames", "stall_seconds", "worker_cpus")
    return BatchRequest(
        inputs=options.inputs,
        output=options.output,
        attributes=parse_attributes(options.attr),
        face=options.face,
        method=options.method,
        pack=options.pack or DEFAULT_PACK,
        detail=not options.no_detail,
        seed=options.seed,
        device=options.device,
        encode=EncodeOptions(encoder=options.encoder, preset=options.preset, crf=options.crf),
        address=options.address,
        report=options.report,
        inversion=options.inversion,
        resume=options.resume,
        restart=options.restart,
        latents=options.latents,
        num_workers=options.workers,
        num_gpu_workers=options.gpu_workers,
        dashboard=options.dashboard,
        quiet=options.quiet,
        **{name: value for name in optional if (value := getattr(options, name)) is not None},
    )


def demo(options: argparse.Namespace) -> None:
    """``vidinv demo``."""
    from pipelines.demo import demonstrate
    from pipelines.meter import Progress

    made = demonstrate(
        _pack(options),
        options.out,
        clip=options.clip,
        attribute=options.attr,
        progress=Progress(quiet=options.quiet),
    )
    if not options.quiet:
        _print_notes(made.result)
    for label, path in (("source", made.source), ("edited", made.edited), ("frames", made.sheet)):
        print(f"{label}\t{path}")


def _run_arguments(options: argparse.Namespace, progress: Progress | None = None) -> dict:  # type: ignore[type-arg]
    from pipelines.meter import Progress
    from vidinv.packs import DEFAULT_PACK
    from vidinv.video import EncodeOptions

    return {
        "method": options.method,
        "pack": options.pack or DEFAULT_PACK,
        "face": options.face,
        "device": options.device,
        "seed": options.seed,
        "encode": EncodeOptions(encoder=options.encoder, preset=options.preset, crf=options.crf),
        "overwrite": options.overwrite,
        "latents": options.latents,
        "progress": progress or Progress(quiet=options.quiet),
    }


def _print_result(options: argparse.Namespace, result: ClipResult) -> None:
    if not options.quiet:
        _print_notes(result)
    if options.json:
        _print_json(result.as_dict())


def _print_notes(result: ClipResult) -> None:
    for warning in result.warnings:
        print(f"vidinv: note: {warning}", file=sys.stderr)
    print(_summary(result), file=sys.stderr)


def _summary(result: ClipResult) -> str:
    identity = result.identity.similarity_mean
    kept = "" if identity is None else f", identity similarity {identity:.2f}"
    return (
        f"{result.output}: {result.frames} frames, {result.faces_edited} faces edited, "
        f"{result.frames_without_face} frames without, {result.fps:.1f} fps{kept}"
    )


def packs_list(options: argparse.Namespace) -> None:
    """``vidinv packs list``."""
    from vidinv.packs import PackFiles, available_packs

    for folder in available_packs():
        meta = PackFiles.open(folder).meta
        megabytes = sum(entry["bytes"] for entry in meta["files"].values()) / 1e6
        print(
            f"{meta['name']}\t{megabytes:.1f} MB\t{meta['licence']}\t{meta.get('description', '')}"
        )


def packs_show(options: argparse.Namespace) -> None:
    """``vidinv packs show``."""
    print(json.dumps(_pack(options).meta, indent=2))


def packs_verify(options: argparse.Namespace) -> None:
    """``vidinv packs verify``: PackError lists what is wrong."""
    from vidinv.errors import PackError

    pack = _pack(options)
    problems = pack.files.problems()
    if problems:
        raise PackError("; ".join(problems))
    print(f"{pack.name}: {len(pack.meta['files'])} files are as recorded")


def directions_list(options: argparse.Namespace) -> None:
    """``vidinv directions list``."""
    directions = _pack(options).directions()
    for name in directions.names():
        direction = directions[name]
        low, high = direction.strength_range
        print(f"{name}\t+ {direction.positive}\tnatural from {low:g} to {high:g}")


def _pack(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    from vidinv.packs import DEFAULT_PACK, load_pack

    return load_pack(options.pack or DEFAULT_PACK)


def train(options: argparse.Namespace) -> None:
    """``vidinv train``."""
    from training.request import TrainingRequest
    from training.start import train as run_training

    request = TrainingRequest(
        options.kind, options.config, options.out, options.data, options.resume
    )
    run_training(request)


def bench_speed(options: argparse.Namespace) -> None:
    """``vidinv bench speed``."""
    from pipelines.bench import measure

    for line in measure(_pack(options), clip=options.clip).lines():
        print(line)


def doctor(options: argparse.Namespace) -> None:
    """``vidinv doctor``."""
    from vidinv.doctor import report

    for line in report():
        print(line)


if __name__ == "__main__":
    sys.exit(main())
