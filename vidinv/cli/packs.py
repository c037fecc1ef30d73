"""Commands on model packs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from vidinv.cli.options import Commands, add_command, open_pack

if TYPE_CHECKING:
    from vidinv.checkpoints.directions import DirectionOptions
    from vidinv.checkpoints.importing import ImportFile


def add_packs(commands: Commands) -> None:
    """Declare ``vidinv packs``."""
    parser = commands.add_parser("packs", help="list, show, verify, import or export model packs")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add_command(actions, "list", "the packs there are", packs_list)
    for name, summary, command in (
        ("show", "the description of a pack", packs_show),
        ("verify", "check the files of a pack against their recorded hashes", packs_verify),
    ):
        action = add_command(actions, name, summary, command)
        action.add_argument("pack", nargs="?", default=None, metavar="NAME|PATH")
    _add_import(actions)
    action = add_command(
        actions, "export", "write a pack's StyleGAN2 generator in rosinality's layout", packs_export
    )
    action.add_argument("pack", nargs="?", default=None, metavar="NAME|PATH")
    action.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.pt")


def _add_import(actions: Commands) -> None:
    action = add_command(
        actions, "import", "make a pack of downloaded checkpoints and directions", packs_import
    )
    action.add_argument("files", nargs="*", type=Path, metavar="FILE")
    action.add_argument("-o", "--output", type=Path, required=True, metavar="PACK")
    action.add_argument(
        "--direction",
        action="append",
        default=[],
        metavar="NAME=FILE[,KEY=VALUE...]",
        help="a direction with a name of its own, and scale=X (negative turns it round), "
        "space=w|w+, layers=A-B, positive=WORDS",
    )
    action.add_argument(
        "--sha256",
        action="append",
        default=[],
        metavar="FILE=HEX",
        help="what a file must have, by its name without folder",
    )
    action.add_argument(
        "--base",
        default=None,
        metavar="NAME|PATH",
        help="the pack to add to, where no file has a generator (default: the embedded one)",
    )
    action.add_argument(
        "--alignment",
        default="ffhq",
        help="crop of the generator's faces, ffhq or tight; or what a generator of other things "
        "sees: frame (the largest square), letterbox (all of it), crop:X,Y,SIDE (default: ffhq)",
    )
    action.add_argument("--licence", default=None, metavar="TEXT", help="of the files, if known")
    action.add_argument("--fp32", action="store_true", help="keep float32 instead of float16")


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


def packs_import(options: argparse.Namespace) -> None:
    """``vidinv packs import``."""
    from vidinv.checkpoints.importing import UNKNOWN_LICENCE, import_pack
    from vidinv.faces.align import crop_scale_of

    crop_scale_of(options.alignment)  # a name that there is
    for line in import_pack(
        _files(options),
        options.output,
        base=options.base,
        alignment=options.alignment,
        licence=options.licence or UNKNOWN_LICENCE,
        half=not options.fp32,
    ):
        print(line)
    print(f"{options.output}: written")


def packs_export(options: argparse.Namespace) -> None:
    """``vidinv packs export``."""
    from vidinv.checkpoints.importing import export_rosinality

    export_rosinality(open_pack(options), options.output)
    print(f"{options.output}: written")


def _files(options: argparse.Namespace) -> list[ImportFile]:
    """Files and directions, each with the hash that is asked of it."""
    from vidinv.checkpoints.importing import ImportFile
    from vidinv.errors import UsageError

    hashes = dict(_pair(text, "--sha256") for text in options.sha256)
    files = [ImportFile(path, hashes.pop(path.name, None)) for path in options.files]
    for text in options.direction:
        name, rest = _pair(text, "--direction")
        path, *settings = rest.split(",")
        direction = _direction_options(name, settings)
        digest = hashes.pop(Path(path).name, None)
        files.append(ImportFile(Path(path), digest, direction))
    if hashes:
        raise UsageError(f"--sha256 names {min(hashes)!r}, which is not imported")
    return files


def _direction_options(name: str, settings: list[str]) -> DirectionOptions:
    from vidinv.checkpoints.directions import DirectionOptions
    from vidinv.errors import UnknownNameError, UsageError

    values = dict(_pair(text, "--direction") for text in settings)
    known = ("scale", "space", "layers", "positive")
    for key in values:
        if key not in known:
            raise UnknownNameError("setting of a direction", key, known)
    try:
        scale = float(values["scale"]) if "scale" in values else None
        first, _, last = values.get("layers", "").partition("-")
        layers = (int(first), int(last or first)) if first else None
    except ValueError:
        raise UsageError(f"--direction {name}: scale=X is a number, layers=A-B are rows") from None
    return DirectionOptions(name, scale, values.get("space"), layers, values.get("positive"))


def _pair(text: str, option: str) -> tuple[str, str]:
    from vidinv.errors import UsageError

    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UsageError(f"{option} wants NAME=VALUE, got {text!r}")
    return name, value
