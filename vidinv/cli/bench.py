"""``vidinv bench``: speed of this installation, inversion and editing of methods."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vidinv.cli.options import (
    Commands,
    add_attributes,
    add_command,
    add_device,
    add_method,
    open_pack,
)
from vidinv.cli.output import print_json
from vidinv.errors import UsageError

if TYPE_CHECKING:
    from pipelines.bench.figures import EditingFigures, InversionFigures
    from pipelines.bench.methods import BenchRequest


class Result(Protocol):
    """What a benchmark gives."""

    def lines(self) -> Sequence[str]: ...
    def as_dict(self) -> Mapping[str, Any]: ...


def add_bench(commands: Commands) -> None:
    """Declare ``vidinv bench``."""
    parser = commands.add_parser("bench", help="measure this installation, or methods on faces")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    summary = "frames per second against the per-frame baseline"
    action = add_command(actions, "speed", summary, bench_speed)
    action.add_argument("clip", nargs="?", type=Path, help="a clip with a face (default: made up)")
    action.add_argument("--pack", default=None, metavar="NAME|PATH")
    action.add_argument(
        "--networks",
        action="store_true",
        help="networks alone: an fse edit of a face against an encoder pass and three full ones",
    )
    _add_video(actions)
    summary = "how well methods give faces back: PSNR, MS-SSIM, LPIPS, identity, FID, time"
    action = add_command(actions, "inversion", summary, bench_inversion)
    _add_faces_options(action)
    action.add_argument(
        "--figures",
        type=Path,
        default=None,
        metavar="DIR",
        help="also draw faces, what each method adds to G(w), and how much weights change",
    )
    summary = "what the same edits do in every method: change of the attribute, identity"
    action = add_command(actions, "editing", summary, bench_editing)
    _add_faces_options(action)
    action.add_argument(
        "--attr",
        action="append",
        default=[],
        metavar="NAME",
        help="may be given several times (default: all of the pack)",
    )
    action.add_argument(
        "--magnitudes",
        type=_numbers,
        default=None,
        metavar="LIST",
        help="strengths, as in --magnitudes=-2,-1,1,2 (the default)",
    )
    action.add_argument(
        "--figures",
        type=Path,
        default=None,
        metavar="DIR",
        help="also draw faces, each edit at its largest strength: of G(w), and by the method",
    )


def _add_video(actions: Commands) -> None:
    summary = "how steady edited clips are: flicker and borders, edit over source, and smiles"
    action = add_command(actions, "video", summary, bench_video)
    action.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    add_attributes(action)
    add_method(action)
    action.add_argument("--pack", default=None, metavar="NAME|PATH", help="model pack")
    add_device(action)
    action.add_argument(
        "--ablate",
        action="store_true",
        help="also without average over time, fixed noise, detail transfer, union of masks, ...",
    )
    action.add_argument(
        "--max-frames", type=int, default=None, metavar="N", help="the first N frames of each clip"
    )
    action.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    action.add_argument("--quiet", action="store_true", help="no progress")


def _add_faces_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="pictures, clips, folders of them"
    )
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        metavar="NAME[:OPTION=VALUE,...]",
        help="may be given several times, also one method set in several ways, as fse and "
        "fse:edit_rule=eq1 (default: all that work with the pack, but for those that are fitted to "
        "every track, as pti)",
    )
    parser.add_argument("--pack", default=None, metavar="NAME|PATH", help="model pack")
    add_device(parser)
    parser.add_argument(
        "--aligned", action="store_true", help="pictures are aligned faces: take them whole"
    )
    parser.add_argument(
        "--frames-per-clip", type=int, default=8, metavar="N", help="evenly spread (default: 8)"
    )
    parser.add_argument("--limit", type=int, default=None, metavar="N", help="so many faces")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def bench_speed(options: argparse.Namespace) -> None:
    """``vidinv bench speed``."""
    from pipelines.bench.speed import measure, measure_networks

    if options.networks:
        if options.clip is not None:
            raise UsageError("--networks measures one face: give no clip")
        print("\n".join(measure_networks(open_pack(options)).lines()))
        return
    for line in measure(open_pack(options), clip=options.clip).lines():
        print(line)


def bench_video(options: argparse.Namespace) -> None:
    """``vidinv bench video``."""
    from vidinv.editing.schedules import parse_attributes
    from vidinv.types import EditSpec, RenderMode

    attributes = parse_attributes(options.attr or ["smile"])
    from pipelines.bench.video import measure_video

    result = measure_video(
        options.clips,
        pack=open_pack(options),
        spec=EditSpec(
            attributes,
            method=options.method,
            mode=RenderMode.PASTE if options.no_detail else RenderMode.TRANSFER,
            occlusion=options.occlusion,
            max_frames=options.max_frames,
        ),
        device=options.device,
        is_ablated=options.ablate,
        tell=_teller(options),
    )
    _print(options, result)


def bench_inversion(options: argparse.Namespace) -> None:
    """``vidinv bench inversion``."""
    from pipelines.bench.figures import InversionFigures
    from pipelines.bench.inversion import measure_inversion

    figures = None if options.figures is None else InversionFigures(options.figures)
    _print(options, measure_inversion(_request(options), figures=figures, tell=_teller(options)))
    _tell_figures(options, figures)


def bench_editing(options: argparse.Namespace) -> None:
    """``vidinv bench editing``."""
    from pipelines.bench.editing import MAGNITUDES, measure_editing
    from pipelines.bench.figures import EditingFigures

    magnitudes = options.magnitudes or MAGNITUDES
    figures = None
    if options.figures is not None:
        figures = EditingFigures(options.figures, max(magnitudes, key=lambda m: (abs(m), m)))
    result = measure_editing(
        _request(options),
        attributes=options.attr,
        magnitudes=magnitudes,
        figures=figures,
        tell=_teller(options),
    )
    _print(options, result)
    _tell_figures(options, figures)


def _request(options: argparse.Namespace) -> BenchRequest:
    from pipelines.bench.methods import BenchRequest

    return BenchRequest(
        options.inputs,
        open_pack(options),
        options.method,
        device=options.device,
        aligned=options.aligned,
        frames_per_clip=options.frames_per_clip,
        limit=options.limit,
    )


def _print(options: argparse.Namespace, result: Result) -> None:
    if options.json:
        print_json(result.as_dict())
    else:
        print("\n".join(result.lines()))


def _tell_figures(
    options: argparse.Namespace, figures: InversionFigures | EditingFigures | None
) -> None:
    if figures is not None and not options.quiet:
        print("\n".join(map(str, figures.written)), file=sys.stderr)


def _teller(options: argparse.Namespace) -> Callable[[str], None]:
    return (lambda line: None) if options.quiet else partial(print, file=sys.stderr)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers like -1,1") from None
