"""Workers that learn together: who they are, what they average, and what they agree on.

A worker of a run belongs to a group of torch.distributed: the run's own processes, those of
``torchrun``, or those of Ray Train (training.on_ray). Alone, everything here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vidinv.errors import UsageError


class OutOfMemoryElsewhere(torch.OutOfMemoryError):
    """Another worker ran out of memory in this step."""


def launched_size() -> int:
    """Workers that ``torchrun`` started, this process among them; 0 where it did not."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else 0


def join(rank: int, size: int, *, local_rank: int, rendezvous: str, on_gpu: bool) -> None:
    """Become a worker of a group.

    Args:
        local_rank: number among the workers of this machine.
        rendezvous: where they find each other, as torch.distributed takes it.
        on_gpu: each has a GPU of its own (``check_gpus``).
    """
    if on_gpu:
        torch.cuda.set_device(local_rank)
    if size > 1:
        backend = "nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, init_method=rendezvous, rank=rank, world_size=size)


def check_gpus(workers: int) -> None:
    """UsageError where a machine has fewer GPUs than workers: NCCL wants one for each."""
    if workers > (gpus := torch.cuda.device_count()):
        raise UsageError(
            f"{workers} workers need a GPU each, and there are {gpus} here: set loop.workers to "
            f"{gpus}, and loop.batch or loop.accumulate higher instead, or loop.device to cpu"
        )


def leave() -> None:
    """The end of a worker that lives on in no other."""
    if dist.is_initialized():
        dist.destroy_process_group()


def current_rank() -> int:
    """Number of this worker, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Mean of the gradients over workers, as one message; nothing with a single worker.

    Raises:
        OutOfMemoryElsewhere: there is none of another worker.
    """
    if not _are_several():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])  # needs memory itself: agree after it
    agree_on_memory()
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()


def mean_over_workers(value: Tensor) -> Tensor:
    """A tensor's mean over workers, the same in all of them; itself with a single worker.

    Raises:
        OutOfMemoryElsewhere: there is none of another worker.
    """
    if not _are_several():
        return value
    total = value.clone()
    agree_on_memory()
    dist.all_reduce(total)
    return total.div_(dist.get_world_size())


def agree_on_memory(*, ran_out: bool = False) -> None:
    """Before every message and after every step: has each worker had the memory for it?

    A worker that ran out says so in the place of what the others are about to average, so that all
    of them leave the step where it has changed as much in each (``training.loop.Loop``).

    Raises:
        OutOfMemoryElsewhere: another one has not; to one that ran out itself, nothing.
    """
    if not _are_several():
        return
    out = torch.tensor(int(ran_out))
    dist.all_reduce(out, group=_cpu_group())
    if out and not ran_out:
        raise OutOfMemoryElsewhere("another worker ran out of memory")


def _are_several() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


@cache
def _cpu_group() -> Any:
    """For numbers that a GPU shall not be waited for; None: the group itself."""
    return None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")
