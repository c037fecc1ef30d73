"""``vidinv directions``: what a pack can edit, finding more, looking at them."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from vidinv.cli.options import (
    Commands,
    add_command,
    add_device,
    add_method,
    add_method_options,
    open_pack,
    open_pack_as_set,
)


def add_directions(commands: Commands) -> None:
    """Declare ``vidinv directions``."""
    parser = commands.add_parser("directions", help="the attributes that a pack can edit")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    summary = "attributes, their signs and natural ranges"
    action = add_command(actions, "list", summary, directions_list)
    action.add_argument("--pack", default=None, metavar="NAME|PATH")
    _add_fit(actions)
    _add_preview(actions)


def _add_fit(actions: Commands) -> None:
    summary = "find directions of a pack's generator and write a pack with them"
    action = add_command(actions, "fit", summary, directions_fit)
    action.add_argument(
        "kind",
        choices=["interfacegan", "sefa", "ganspace"],
        help="interfacegan: normals of SVMs on measured pictures; sefa: eigenvectors of the style "
        "weights; ganspace: principal components of w",
    )
    action.add_argument(
        "-o", "--output", type=Path, required=True, metavar="PACK", help="folder of the new pack"
    )
    action.add_argument("--pack", default=None, metavar="NAME|PATH", help="that it starts from")
    action.add_argument(
        "--attr",
        action="append",
        default=[],
        metavar="NAME",
        help="interfacegan: smile, yaw, pitch, mouth_open, eyes_open, beard, glasses, lips, brows; "
        "several times",
    )
    action.add_argument(
        "--given",
        action="append",
        default=[],
        metavar="NAME",
        help="interfacegan: hold this attribute; several times",
    )
    action.add_argument("--count", type=int, default=5, metavar="N", help="default: 5")
    action.add_argument(
        "--samples", type=int, default=None, metavar="N", help="of w (default: by kind)"
    )
    action.add_argument(
        "--layers",
        type=_layers,
        default=None,
        metavar="FIRST-LAST",
        help="rows of w+ that they change, from 0 (default: all)",
    )
    action.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    action.add_argument("--quiet", action="store_true", help="no progress")


def _add_preview(actions: Commands) -> None:
    summary = "a sheet for every direction: faces down, strengths across"
    action = add_command(actions, "preview", summary, directions_preview)
    action.add_argument(
        "inputs",
        nargs="*",
        type=Path,
        metavar="INPUT",
        help="pictures, clips, folders (default: faces of the generator's own)",
    )
    action.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the sheets"
    )
    action.add_argument(
        "--attr", action="append", default=[], metavar="NAME", help="several times (default: all)"
    )
    action.add_argument("--pack", default=None, metavar="NAME|PATH", help="model pack")
    add_method(action)
    add_method_options(action)
    add_device(action)
    action.add_argument("--faces", type=int, default=4, metavar="N", help="default: 4")
    action.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")


def directions_list(options: argparse.Namespace) -> None:
    """``vidinv directions list``."""
    directions = open_pack(options).directions()
    for name in directions.names():
        direction = directions[name]
        low, high = direction.strength_range
        range_is = "natural" if direction.checked else "not checked; usual"
        print(f"{name}\t+ {direction.positive}\t{range_is} from {low:g} to {high:g}")


def directions_fit(options: argparse.Namespace) -> None:
    """``vidinv directions fit``."""
    from pipelines.directions.fit import FitRequest, fit

    request = FitRequest(
        open_pack(options),
        options.kind,
        options.output,
        options.attr,
        options.given,
        count=options.count,
        num_samples=options.samples,
        layers=options.layers,
        seed=options.seed,
    )
    tell = (lambda line: None) if options.quiet else partial(print, file=sys.stderr)
    print("\n".join(fit(request, tell=tell)))


def directions_preview(options: argparse.Namespace) -> None:
    """``vidinv directions preview``."""
    from pipelines.directions.preview import PreviewRequest, preview

    request = PreviewRequest(
        open_pack_as_set(options),
        options.output,
        options.attr,
        options.inputs,
        method=options.method,
        device=options.device,
        num_faces=options.faces,
        seed=options.seed,
    )
    print("\n".join(map(str, preview(request))))


def _layers(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not (first.isdecimal() and (last.isdecimal() or not dash)):
        raise argparse.ArgumentTypeError(f"{text!r} is no range of rows like 0-5")
    return int(first), int(last or first)
