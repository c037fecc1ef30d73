"""What this machine has, and what each missing part would give: ``vidinv doctor``.

Every check is a function that returns a line. A check that raises is itself a finding, so a broken
installation is reported and never stops the report.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

Probe = Callable[[], str]

_LABEL_WIDTH = 16


@dataclass(frozen=True)
class Check:
    """A labelled question about the machine.

    Attributes:
        probe: the answer in one line; may raise, which is then the answer.
    """

    label: str
    probe: Probe


def report(checks: Iterable[Check] | None = None) -> list[str]:
    """One line for each part: what is there, or what it would give and how to get it.

    Args:
        checks: what to ask; None asks everything, packs included.
    """
    chosen = [*CHECKS, *pack_checks()] if checks is None else checks
    return [f"{check.label:<{_LABEL_WIDTH}}{_answer(check.probe)}" for check in chosen]


def _answer(probe: Probe) -> str:
    try:
        return probe()
    except Exception as error:
        return f"BROKEN: {type(error).__name__}: {' '.join(str(error).split())}"


def python() -> str:
    """Interpreter and system."""
    return f"{platform.python_version()} ({sys.executable}), {platform.platform()}"


def hardware() -> str:
    """Cores that this process may use, and memory."""
    import psutil

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{cores} cores, {memory.total / 2**30:.1f} GiB memory "
        f"({memory.available / 2**30:.1f} GiB available)"
    )


def torch_device() -> str:
    """Torch, and the GPU that it sees."""
    import torch

    if not torch.cuda.is_available():
        return (
            f"{torch.__version__}, no CUDA device: runs on the CPU; a GPU is used when there is one"
        )
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{torch.__version__}, CUDA {torch.version.cuda}: {', '.join(names)}"


def cuda_ops() -> str:
    """Operators of our own for GPUs."""
    from vidinv.generators import ops

    return ops.state()


def video(names: Iterable[str] | None = None) -> str:
    """PyAV, FFmpeg and the encoders.

    Args:
        names: encoders to look for; None: those that ``--encoder`` takes.
    """
    from vidinv.video.capabilities import usable_encoders, versions
    from vidinv.video.codecs import ENCODERS

    encoders = usable_encoders(ENCODERS if names is None else names)
    line = f"{versions()}; encoders: {', '.join(n for n, has in encoders.items() if has) or 'none'}"
    lacking = [name for name, has in encoders.items() if not has]
    return f"{line}; this FFmpeg lacks {', '.join(lacking)}" if lacking else line


def opencv() -> str:
    """The import is the check: the wheel with GUI fails where libGL is missing."""
    import cv2

    return str(cv2.__version__)


def face_networks() -> str:
    """dlib and the weights that every run needs: the answer comes from using them."""
    import dlib
    import numpy as np

    from vidinv.faces import dlib_backend

    backend = dlib_backend()
    grey = np.full((150, 150, 3), 127, np.uint8)
    landmarks = backend.landmarks.predict(grey, (25, 25, 125, 125))
    backend.embedder.embed(grey, landmarks)
    return f"dlib {dlib.__version__}; landmark and recognition weights load and run"


def face_alignment() -> str:
    """FAN: package and weights."""
    from vidinv.errors import MissingDependencyError
    from vidinv.faces.fan_backend import require_weights

    try:
        require_weights()
    except MissingDependencyError as error:
        return f"{error}; would give FAN landmarks on a GPU"
    return f"{_version('face-alignment')} with weights: FAN landmarks on a GPU"


def lpips() -> str:
    """LPIPS: package and at least one backbone."""
    if not _installed("lpips"):
        return f"missing, would give the LPIPS figure: {_command('.[train]')}"
    from vidinv.metrics.lpips import BACKBONES, cache_folder, cached_backbones

    found = cached_backbones()
    if not found:
        files = ", ".join(backbone.file for backbone in BACKBONES.values())
        return f"{_version('lpips')} without backbone: put one of {files} into {cache_folder()}"
    return f"{_version('lpips')} with backbone {', '.join(found)}"


def decord() -> str:
    """Random access to the frames of a clip."""
    return _optional("decord", "random access to frames from Python", target=".[train]")


def ray() -> str:
    """Part of the default install; ``vidinv batch`` alone needs it."""
    return _optional("ray", "vidinv batch, on this machine or a cluster", target=".")


def credentials() -> str:
    """Signed outputs, and whose key signs them."""
    from vidinv.provenance.credentials import is_installed, key_file

    if not is_installed():
        return f"missing, would sign outputs (content credentials): {_command('.[credentials]')}"
    key = key_file()
    state = key if key.is_file() else f"will be made at the first use ({key})"
    return f"c2pa-python {_version('c2pa-python')}; key of this installation: {state}"


def pack_checks(folders: Iterable[Path] | None = None) -> Iterator[Check]:
    """A check for each pack; one that says so when there is none.

    Args:
        folders: of the packs; None: of those that can be named.
    """
    try:
        from vidinv.packs import available_packs

        folders = list(available_packs() if folders is None else folders)
    except Exception as error:
        message = str(error)
        yield Check("packs", lambda: f"BROKEN: packs cannot be listed: {message}")
        return
    if not folders:
        yield Check("packs", lambda: "none: point VIDINV_PACKS to a folder of packs")
    for folder in folders:
        yield Check(f"pack {folder.name}", lambda folder=folder: describe_pack(folder))  # type: ignore[misc]


def describe_pack(folder: Path) -> str:
    """Verified and what it can do, or what is wrong with it."""
    from vidinv.packs import load_pack

    pack = load_pack(folder)
    files = pack.files
    if problems := files.problems():
        return f"BROKEN: {'; '.join(problems)}"
    methods = ", ".join(pack.methods)
    attributes = ", ".join(sorted(files.meta["directions"]["entries"]))
    return f"verified; methods: {methods}; attributes: {attributes} ({folder})"


def _optional(package: str, gives: str, *, target: str) -> str:
    if not _installed(package):
        return f"missing, would give {gives}: {_command(target)}"
    return f"{_version(package)}: {gives}"


def _command(target: str) -> str:
    """What to type: in the checkout, because the name on a public index may be somebody else's."""
    return f"pip install -e '{target}' (in the checkout of vidinv)"


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


CHECKS = (
    Check("python", python),
    Check("hardware", hardware),
    Check("torch", torch_device),
    Check("CUDA operators", cuda_ops),
    Check("video", video),
    Check("opencv", opencv),
    Check("faces", face_networks),
    Check("face-alignment", face_alignment),
    Check("lpips", lpips),
    Check("decord", decord),
    Check("ray", ray),
    Check("credentials", credentials),
)
