"""Commands on model packs."""

from __future__ import annotations

import argparse
import json

from vidinv.cli.options import Commands, add_command, open_pack


def add_packs(commands: Commands) -> None:
    """Declare ``vidinv packs``."""
    parser = commands.add_parser("packs", help="list, show or verify model packs")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add_command(actions, "list", "the packs there are", packs_list)
    for name, summary, command in (
        ("show", "the description of a pack", packs_show),
        ("verify", "check the files of a pack against their recorded hashes", packs_verify),
    ):
        action = add_command(actions, name, summary, command)
        action.add_argument("pack", nargs="?", default=None, metavar="NAME|PATH")


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
    print(json.dumps(open_pack(options).meta, indent=2))


def packs_verify(options: argparse.Namespace) -> None:
    """``vidinv packs verify``: PackError lists what is wrong."""
    from vidinv.errors import PackError

    pack = open_pack(options)
    problems = pack.files.problems()
    if problems:
        raise PackError("; ".join(problems))
    print(f"{pack.name}: {len(pack.meta['files'])} files are as recorded")
