"""CUDA operators of the generators: FIR resampling, bias with leaky ReLU, and both in one.

``layers.py`` asks ``kernels_for`` at each use; what it gets on a CPU, or where the operators cannot
be built, is None, and the reference in torch does the work. The first use on a GPU builds them.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from vidinv.generators.ops import build
from vidinv.generators.ops.functions import filtered_lrelu, scale_lrelu, upfirdn
from vidinv.generators.ops.library import Kernels

__all__ = ["Kernels", "filtered_lrelu", "kernels_for", "scale_lrelu", "state", "upfirdn"]

SWITCH = "VIDINV_CUDA_OPS"  # in the environment: ``off`` computes everything with torch


def kernels_for(*tensors: Tensor) -> Kernels | None:
    """What computes on these tensors; None: the reference does."""
    if not all(tensor.is_cuda for tensor in tensors):
        return None
    kernels = _kernels()
    return kernels if kernels is not None and kernels.takes(*tensors) else None


@cache
def _kernels() -> Kernels | None:
    """Built at the first use; None, and a line that says why, where that cannot be."""
    if _is_off():
        return None
    return load_or_say()


def load_or_say(archs: list[str] | None = None, source: Path = build.SOURCE) -> Kernels | None:
    """The CUDA operators, built if need be; None where they cannot be, with a line on stderr.

    Args:
        archs: compute capabilities; None: those of the GPUs.
    """
    try:
        archs = build.architectures() if archs is None else archs
        if not build.library_path(archs, source).is_file():
            if build.find_nvcc() is None:
                raise OSError("nvcc of the CUDA toolkit is not found")
            _say("building CUDA operators, once for this GPU (some seconds)")
        return Kernels(build.build(archs, source))
    except (OSError, RuntimeError, ValueError) as error:
        _say(f"no CUDA operators, generators run slower in plain torch: {_cause(error)}")
        return None


def state() -> str:
    """In one line, for ``vidinv doctor``: built, to be built, or why not."""
    if torch.version.cuda is None or not torch.cuda.is_available():
        return "not needed: no CUDA device"
    if _is_off():
        return f"switched off ({SWITCH}): generators run slower in plain torch"
    path = build.library_path(build.architectures())
    if path.is_file():
        return f"built: {path}"
    nvcc = build.find_nvcc()
    if nvcc is None:
        return (
            f"missing, would make generators faster: install nvcc (CUDA {torch.version.cuda} "
            "toolkit); plain torch does the work"
        )
    return f"will be built at the first use, with {nvcc} ({path})"


def _is_off() -> bool:
    return os.environ.get(SWITCH, "").lower() in ("off", "0", "no")


def _cause(error: Exception) -> str:
    """One line of what may be pages of a compiler's."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error:|cannot find", line)]
    return (telling or lines or [type(error).__name__])[0][:300]


def _say(line: str) -> None:
    print(f"vidinv: note: {line}", file=sys.stderr)
