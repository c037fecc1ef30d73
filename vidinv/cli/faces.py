"""``vidinv faces``: who is in a clip or picture, by the numbers that ``--face`` takes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vidinv.cli.options import (
    Commands,
    add_command,
    add_device,
    add_landmarks,
    add_on_error,
    open_pack,
)
from vidinv.cli.output import print_json, say
from vidinv.interrupts import sigterm_interrupts

if TYPE_CHECKING:
    from pipelines.faces import FoundTrack

_HEAD = f"{'face':<6}{'seconds':<17}{'frames':>6}{'size':>10}   --face largest"


def add_faces(commands: Commands) -> None:
    """Declare ``vidinv faces``."""
    summary = "list the faces of a clip or picture, by the numbers that --face takes"
    parser = add_command(commands, "faces", summary, faces)
    parser.add_argument("input", type=Path, metavar="INPUT", help="a video or a picture")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=None,
        metavar="SHEET.png",
        help="write a contact sheet of the faces",
    )
    parser.add_argument(
        "--overlay",
        type=Path,
        default=None,
        metavar="PATH",
        help="write the input with crops, landmarks, masks and numbers drawn over it",
    )
    parser.add_argument("--pack", default=None, metavar="NAME|PATH", help="model pack")
    add_device(parser)
    add_landmarks(parser)
    add_on_error(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--quiet", action="store_true", help="no progress, no notes")
    parser.add_argument("--overwrite", action="store_true", help="replace existing outputs")


def faces(options: argparse.Namespace) -> None:
    """``vidinv faces``."""
    sigterm_interrupts()
    from pipelines.meter import Progress
    from vidinv import api

    found = api.list_faces(
        options.input,
        sheet=options.output,
        overlay=options.overlay,
        pack=open_pack(options),
        device=options.device,
        landmarks=options.landmarks,
        on_error=options.on_error,
        overwrite=options.overwrite,
        progress=Progress(quiet=options.quiet),
    )
    if not options.quiet:
        for warning in found.warnings:
            say(f"note: {warning}")
        if found.sheet is not None:
            say(f"sheet: {found.sheet}")
    if options.json:
        print_json(found.as_dict())
    elif found.tracks:
        print("\n".join([_HEAD, *map(_line, found.tracks)]))


def _line(track: FoundTrack) -> str:
    times = f"{track.first_seconds:.2f}-{track.last_seconds:.2f}"
    taken = "yes" if track.largest else "no"
    return f"{track.id:<6}{times:<17}{track.frames:>6}{track.size_px:>7} px   {taken}"
