"""Process-wide settings that make the networks fast on a CPU: threads and memory allocation."""

from __future__ import annotations

import contextlib
import ctypes
import os

import torch

# glibc's mallopt parameters (malloc.h) and the largest mmap threshold it accepts on 64 bits.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 256 * 2**20
_MAX_MMAP_THRESHOLD = 32 * 2**20


def set_up_process() -> None:
    """Use half the cores for torch, and keep freed activations instead of handing them back.

    Stages overlap in threads, so torch gets half the cores. By default glibc maps every large
    array anew and faults its pages in again at each batch (131 against 79 ms, docs/REFERENCES.md).
    Elsewhere than on glibc only the threads are set.
    """
    torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
