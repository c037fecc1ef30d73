"""Commands on one clip or picture: ``edit``, ``invert``, ``report``, ``demo``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidinv.cli.options import (
    Commands,
    add_attributes,
    add_command,
    add_device,
    add_inversion,
    add_landmarks,
    add_method,
    add_model_options,
    add_on_error,
    credentials_of,
    encode_options,
    open_pack,
    open_pack_as_set,
)
from vidinv.cli.output import print_json, print_notes, print_result
from vidinv.errors import UsageError
from vidinv.interrupts import sigterm_interrupts

if TYPE_CHECKING:
    from pipelines.meter import Progress
    from vidinv.types import ClipResult


def add_edit(commands: Commands) -> None:
    """Declare ``vidinv edit``."""
    parser = add_command(commands, "edit", "edit the faces of a clip or picture", edit)
    _add_run_options(parser)
    add_attributes(parser)


def add_invert(commands: Commands) -> None:
    """Declare ``vidinv invert``."""
    parser = add_command(commands, "invert", "paste back what the inversion alone gives", invert)
    _add_run_options(parser)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, metavar="INPUT", help="a video or a picture")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUTPUT")
    add_model_options(parser)
    parser.add_argument(
        "--report", type=Path, default=None, metavar="PATH.html", help="compare with the input"
    )
    parser.add_argument(
        "--max-frames",
        type=int,
        default=None,
        metavar="N",
        help="to try something: the output is the clip's first N frames, or N from --start "
        "on, with their sound",
    )
    parser.add_argument(
        "--preview",
        type=Path,
        default=None,
        metavar="PATH",
        help="also show source and edit together: in a video (.mp4), or the faces at several "
        "times on a sheet (.png, .jpg)",
    )
    parser.add_argument(
        "--preview-style",
        default="side",
        choices=["side", "split"],
        help="of a preview video: side by side (default), or split by a line that wipes over it",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUTPUT")


def add_report(commands: Commands) -> None:
    """Declare ``vidinv report``."""
    summary = "identity consistency and quality of an edited clip against its source"
    parser = add_command(commands, "report", summary, report)
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
    add_inversion(parser)
    add_method(parser)
    add_device(parser)
    add_landmarks(parser)
    add_on_error(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing page")


def add_demo(commands: Commands) -> None:
    """Declare ``vidinv demo``."""
    parser = add_command(commands, "demo", "make a short clip of a face, edit it, show both", demo)
    parser.add_argument(
        "clip", nargs="?", type=Path, default=None, help="edit this video instead of a made one"
    )
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR")
    parser.add_argument("--attr", default="smile", metavar="NAME", help="default: smile")
    parser.add_argument("--pack", default=None, metavar="NAME|PATH", help="model pack")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")


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
    sigterm_interrupts()
    from vidinv import api  # after the checks that need no networks: it takes seconds

    result = api.edit(
        options.input,
        options.output,
        attributes=attributes,
        detail=not options.no_detail,
        occlusion=options.occlusion,
        **_run_arguments(options, progress),
    )
    _report_run(options, result, inversion=True)
    print_result(options, result)


def invert(options: argparse.Namespace) -> None:
    """``vidinv invert``."""
    _check_report(options)
    sigterm_interrupts()
    from vidinv import api

    result = api.invert(options.input, options.output, **_run_arguments(options))
    _report_run(options, result, inversion=False)  # it is the output itself
    print_result(options, result)


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
        landmarks=options.landmarks,
        overwrite=options.overwrite,
        on_error=options.on_error,
        progress=Progress(quiet=options.quiet),
    )
    if not options.quiet:
        print(f"{options.output}: {made.headline()}", file=sys.stderr)
    if options.json:
        said = made.as_dict()
        print_json({key: said[key] for key in ("recognition", "summary", "standing_out")})


def demo(options: argparse.Namespace) -> None:
    """``vidinv demo``."""
    from pipelines.demo import demonstrate
    from pipelines.meter import Progress

    made = demonstrate(
        open_pack(options),
        options.out,
        clip=options.clip,
        attribute=options.attr,
        progress=Progress(quiet=options.quiet),
    )
    if not options.quiet:
        print_notes(made.result)
    for label, path in (("source", made.source), ("edited", made.edited), ("frames", made.sheet)):
        if path is not None:
            print(f"{label}\t{path}")


def _check_report(options: argparse.Namespace) -> None:
    """A page that cannot be written is refused before the work."""
    if options.report is not None:
        if options.max_frames is not None:
            raise UsageError("--report compares whole clips: leave out --max-frames")
        from pipelines.report.request import check_page

        check_page(options.report, overwrite=options.overwrite)


def _report_run(options: argparse.Namespace, result: ClipResult, *, inversion: bool) -> None:
    """The report of a run that has just ended."""
    if options.report is None:
        return
    from pipelines.meter import Progress
    from vidinv import api

    made = api.write_report(
        options.input,
        options.output,
        options.report,
        pack=open_pack_as_set(options),
        inversion=inversion,
        method=result.method,
        device=options.device,
        landmarks=options.landmarks,
        edit={**result.attributes, **_times(options), "method": result.method},
        overwrite=options.overwrite,
        on_error=options.on_error,
        progress=Progress(quiet=options.quiet),
    )
    if not options.quiet:
        print(f"{options.report}: {made.headline()}", file=sys.stderr)


def _times(options: argparse.Namespace) -> dict[str, str]:
    """``--start`` and ``--end``, where they are given."""
    times = {"start": options.start, "end": options.end}
    return {name: time for name, time in times.items() if time is not None}


def _run_arguments(options: argparse.Namespace, progress: Progress | None = None) -> dict[str, Any]:
    from pipelines.meter import Progress

    return {
        "method": options.method,
        "pack": open_pack_as_set(options),
        "face": options.face,
        "device": options.device,
        "landmarks": options.landmarks,
        "seed": options.seed,
        "start": options.start,
        "end": options.end,
        "max_frames": options.max_frames,
        "encode": encode_options(options),
        "on_error": options.on_error,
        "overwrite": options.overwrite,
        "latents": options.latents,
        "preview": options.preview,
        "preview_style": options.preview_style,
        "credentials": credentials_of(options),
        "progress": progress or Progress(quiet=options.quiet),
    }
