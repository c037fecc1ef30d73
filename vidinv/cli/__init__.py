"""The command line: ``vidinv edit clip.mp4 -o out.mp4 --attr smile`` (options: README.md).

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a batch with quarantined clips or failed reports, 130
interrupted. A failure is one line on stderr; ``--debug`` shows the traceback.

A file here for each group of commands: ``add_NAME`` declares the options of a command, ``NAME``
runs it. What takes long to import is imported when a command runs.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from vidinv.cli.batch import add_batch
from vidinv.cli.bench import add_bench
from vidinv.cli.clips import add_demo, add_edit, add_invert, add_report
from vidinv.cli.directions import add_directions
from vidinv.cli.faces import add_faces
from vidinv.cli.inspect import add_inspect
from vidinv.cli.options import add_command
from vidinv.cli.output import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, say
from vidinv.cli.packs import add_packs
from vidinv.cli.pairs import add_interpolate, add_mix
from vidinv.cli.tools import add_train, doctor
from vidinv.errors import UsageError, VidinvError
from vidinv.files import one_line
from vidinv.interrupts import ignore_interrupts
from vidinv.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _open_missing_streams()
    # What Pillow says of a damaged picture, with its own lines of code; our line says enough.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
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
        say(f"interrupted; {str(error) or 'nothing was written'}")
        return EXIT_INTERRUPTED
    return code or 0


def _fail(options: argparse.Namespace, error: Exception, code: int) -> int:
    if options.debug:
        raise error
    say(one_line(" ".join(str(error).split())))
    return code


def _open_missing_streams() -> None:
    """Where the process was started without (``2>&-``), Python has None, and Ray refuses."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the whole process


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = argparse.ArgumentParser(
        prog="vidinv", description="Edit faces in video by GAN inversion."
    )
    parser.add_argument("--version", action="version", version=f"vidinv {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_edit(commands)
    add_invert(commands)
    add_faces(commands)
    add_batch(commands)
    add_report(commands)
    add_interpolate(commands)
    add_mix(commands)
    add_demo(commands)
    add_inspect(commands)
    add_packs(commands)
    add_directions(commands)
    add_train(commands)
    add_bench(commands)
    add_command(
        commands, "doctor", "what this machine has, and what each missing part would give", doctor
    )
    return parser
