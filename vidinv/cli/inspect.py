"""``vidinv inspect``: what a file says about its making."""

from __future__ import annotations

import argparse
from pathlib import Path

from vidinv.cli.options import Commands, add_command
from vidinv.cli.output import print_json


def add_inspect(commands: Commands) -> None:
    """Declare ``vidinv inspect``."""
    summary = "metadata and content credentials of a clip or picture"
    parser = add_command(commands, "inspect", summary, inspect)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="all of it as one JSON object")


def inspect(options: argparse.Namespace) -> None:
    """``vidinv inspect``."""
    from vidinv.provenance.inspection import inspect as run
    from vidinv.video import check_kind

    check_kind(options.file)
    found = run(options.file)
    if options.json:
        print_json(found.as_dict())
    else:
        print("\n".join(found.lines()))
