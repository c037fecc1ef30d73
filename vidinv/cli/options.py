"""Options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vidinv.errors import UsageError
from vidinv.inversion import METHODS

if TYPE_CHECKING:
    from vidinv.packs import Pack
    from vidinv.provenance import CredentialOptions
    from vidinv.video import EncodeOptions

Command = Callable[[argparse.Namespace], int | None]
Commands = argparse._SubParsersAction  # of ``parser.add_subparsers``


def add_command(
    commands: Commands,
    name: str,
    summary: str,
    command: Command,
) -> argparse.ArgumentParser:
    """A command and what runs it; its own options are added to what this returns."""
    parser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + "."
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=command)
    return parser


def add_attributes(parser: argparse.ArgumentParser) -> None:
    """What to change."""
    parser.add_argument(
        "--attr",
        action="append",
        default=[],
        metavar="[INDEX:]NAME[=STRENGTH]",
        help="what to change: smile, smile=-1, or keyframes smile=0:0,2.5:1.5 (seconds:strength); "
        "1:smile for face 1 of 'vidinv faces' alone; may be given several times",
    )
    parser.add_argument(
        "--no-detail", action="store_true", help="paste the generator's own picture"
    )
    parser.add_argument(
        "--occlusion",
        choices=["auto", "off"],
        default="auto",
        help="auto (default): where the pack has a face-parsing network, hair, glasses, hats and "
        "what else is in front of a face stay as they are; off: nobody looks",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Methods, faces, encoding: what runs on clips share."""
    add_method(parser)
    add_method_options(parser)
    parser.add_argument("--pack", default=None, metavar="NAME|PATH", help="model pack")
    parser.add_argument(
        "--face",
        default="largest",
        metavar="WHICH",
        help="largest (default), all, numbers as 'vidinv faces' prints them (1 or 0,3), or a "
        "reference picture",
    )
    add_range(parser)
    add_device(parser)
    add_landmarks(parser)
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
        "--pix-fmt",
        default=None,
        metavar="NAME",
        help="stored pixel format, as yuv444p or yuv420p10le (default: nearest that players show)",
    )
    add_on_error(parser)
    parser.add_argument(
        "--latents",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="keep analysis and inversions there; the next edit of the same clips starts from them",
    )
    add_credentials(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")


def add_range(parser: argparse.ArgumentParser) -> None:
    """``--start`` and ``--end``."""
    for name, what in (
        ("start", "edit from this time on: seconds from the first frame, or [HH:]MM:SS[.fff]"),
        (
            "end",
            "edit up to this time; outside, pictures stay as they are, and sound and length do",
        ),
    ):
        parser.add_argument(f"--{name}", default=None, metavar="TIME", help=what)


def add_on_error(parser: argparse.ArgumentParser) -> None:
    """``--on-error``, of commands that read clips."""
    parser.add_argument(
        "--on-error",
        default="stop",
        choices=["stop", "skip"],
        help="damaged clips: stop (default), or hold the last good picture and keep the rest",
    )


def add_credentials(parser: argparse.ArgumentParser) -> None:
    """``--no-credentials``, ``--sign-cert`` and ``--sign-key``."""
    parser.add_argument(
        "--credentials",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="sign outputs (content credentials, C2PA), where c2pa-python is installed",
    )
    for name, what in (("cert", "certificate chain"), ("key", "its private key")):
        parser.add_argument(
            f"--sign-{name}",
            default=None,
            metavar="PEM",
            help=f"{what} to sign with (default: made for this installation)",
        )


def credentials_of(options: argparse.Namespace) -> CredentialOptions:
    """What ``--sign-cert`` and its like say."""
    from vidinv.provenance import CredentialOptions

    return CredentialOptions(options.credentials, options.sign_cert, options.sign_key)


def encode_options(options: argparse.Namespace) -> EncodeOptions:
    """What ``add_model_options`` says of encoding."""
    from vidinv.video import EncodeOptions

    return EncodeOptions(
        encoder=options.encoder, preset=options.preset, crf=options.crf, pix_fmt=options.pix_fmt
    )


def add_method(parser: argparse.ArgumentParser) -> None:
    """``--method``."""
    methods = "; ".join(f"{name}: {entry.summary}" for name, entry in METHODS.items())
    parser.add_argument(
        "--method",
        default="fse",
        metavar="NAME",
        help=f"inversion method (default: fse). {methods}. Packs have weights for some of them",
    )


def add_landmarks(parser: argparse.ArgumentParser) -> None:
    """``--landmarks``."""
    parser.add_argument(
        "--landmarks",
        choices=["dlib", "fan"],
        default="dlib",
        help="who finds faces: dlib (default), or face-alignment's networks, for GPUs; "
        "their weights must be in torch's cache",
    )


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """``--method-option``."""
    parser.add_argument(
        "--method-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set the method otherwise than the pack says, as edit_rule=eq1 (fse) or steps=100 "
        "(wplus); may be given several times",
    )


def method_options(options: argparse.Namespace) -> dict[str, str]:
    """What ``--method-option`` says; UsageError for what is no NAME=VALUE."""
    pairs = [text.partition("=") for text in options.method_option]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise UsageError(f"--method-option {name}: give NAME=VALUE, as edit_rule=eq1")
    return {name: value for name, _, value in pairs}


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument(
        "--device",
        default="auto",
        choices=["auto", "cpu", "cuda"],
        help="where the networks run (default: auto, a GPU where there is one)",
    )


def add_inversion(parser: argparse.ArgumentParser) -> None:
    """``--inversion``, of reports."""
    parser.add_argument(
        "--inversion",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="in the report, also invert the source and measure what the inversion alone loses",
    )


def open_pack(options: argparse.Namespace) -> Pack:
    """The pack of ``--pack``, or the default one."""
    from vidinv.packs import DEFAULT_PACK, load_pack

    return load_pack(options.pack or DEFAULT_PACK)


def open_pack_as_set(options: argparse.Namespace) -> Pack:
    """The same with ``--method-option``."""
    return open_pack(options).with_options(options.method, method_options(options))
