"""Commands on two faces: ``interpolate`` and ``mix``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidinv.cli.options import (
    Commands,
    add_command,
    add_credentials,
    add_device,
    add_method,
    add_method_options,
    credentials_of,
    open_pack_as_set,
)
from vidinv.cli.output import print_json

if TYPE_CHECKING:
    from pipelines.between import PairRequest


def add_interpolate(commands: Commands) -> None:
    """Declare ``vidinv interpolate``."""
    summary = "the way from one face to another: latents, and what else the method has of them"
    parser = add_command(commands, "interpolate", summary, interpolate)
    _add_pair_options(parser, "OUTPUT.mp4", "a clip; a picture's name gives a sheet")
    parser.add_argument(
        "--steps",
        type=int,
        default=None,
        metavar="N",
        help="pictures from A to B, both included (default: 50, in a sheet 7)",
    )
    parser.add_argument("--rate", type=int, default=25, metavar="FPS", help="default: 25")
    parser.add_argument(
        "--latents-only",
        action="store_true",
        help="leave out feature codes, weights and what else the method has besides latents",
    )


def add_mix(commands: Commands) -> None:
    """Declare ``vidinv mix``."""
    summary = "features of A (pose, shape) with the styles of B, G(w_B, F_A)"
    parser = add_command(commands, "mix", summary, mix)
    _add_pair_options(parser, "OUTPUT.png", "a picture")
    parser.add_argument(
        "--sheet", action="store_true", help="both inversions and both mixes side by side"
    )


def _add_pair_options(parser: argparse.ArgumentParser, output: str, what: str) -> None:
    for name in ("a", "b"):
        parser.add_argument(
            name, type=Path, metavar=name.upper(), help="a picture, or a clip: its first face"
        )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar=output, help=what)
    add_method(parser)
    add_method_options(parser)
    parser.add_argument("--pack", default=None, metavar="NAME|PATH", help="model pack")
    add_device(parser)
    add_credentials(parser)
    parser.add_argument(
        "--aligned", action="store_true", help="the pictures are aligned faces: take them whole"
    )
    parser.add_argument(
        "--size",
        type=int,
        default=None,
        metavar="PX",
        help="side of the result (default: the generator's; in sheets 220 a picture)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUTPUT")


def interpolate(options: argparse.Namespace) -> None:
    """``vidinv interpolate``."""
    from pipelines.between import run_interpolation
    from pipelines.meter import Progress

    request = _request(
        options, steps=options.steps, rate=options.rate, codes=not options.latents_only
    )
    result = run_interpolation(request, progress=Progress(quiet=options.quiet))
    _print(options, result, f"{result['frames']} pictures of {', '.join(result['interpolated'])}")


def mix(options: argparse.Namespace) -> None:
    """``vidinv mix``."""
    from pipelines.between import run_mix

    result = run_mix(_request(options, sheet=options.sheet))
    _print(options, result, f"features of {options.a} with styles of {options.b}")


def _request(options: argparse.Namespace, **more: Any) -> PairRequest:
    from pipelines.between import PairRequest

    return PairRequest(
        options.a,
        options.b,
        options.output,
        open_pack_as_set(options),
        method=options.method,
        device=options.device,
        size_px=options.size,
        aligned=options.aligned,
        overwrite=options.overwrite,
        credentials=credentials_of(options),
        **more,
    )


def _print(options: argparse.Namespace, result: Mapping[str, Any], summary: str) -> None:
    if not options.quiet:
        for warning in result["warnings"]:
            print(f"vidinv: note: {warning}", file=sys.stderr)
        print(f"{options.output}: {summary}", file=sys.stderr)
    if options.json:
        print_json(result)
