"""How many workers of which kind a cluster gets, and whether its nodes can hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.batch.stages.table import STAGES
from vidinv.errors import MissingDependencyError, UsageError

# An actor with a whole CPU each would leave none for Ray's own tasks: two on two cores hang.
WORKER_CPUS = 0.5
ALL_STAGES = frozenset(stage.name for stage in STAGES)
GPU_STAGES = frozenset(stage.name for stage in STAGES if stage.gpu)
_ROUNDING = 1e-6  # Ray counts in units of 1e-4

Node = Mapping[str, float]


@dataclass(frozen=True)
class Pool:
    """Workers of one kind.

    Attributes:
        stages: what they do.
        num_workers: how many; each is one process.
        num_gpus: GPUs of each worker, whole ones: fractions do not keep their memory apart.
        num_cpus: what each reserves in Ray's books.
    """

    stages: frozenset[str]
    num_workers: int
    num_gpus: int = 0
    num_cpus: float = WORKER_CPUS

    @property
    def name(self) -> str:
        """Its stages in the order of the work, for logs and the dashboard."""
        if self.stages == ALL_STAGES:
            return "all stages"
        return "+".join(stage.name for stage in STAGES if stage.name in self.stages)


@dataclass(frozen=True)
class PoolRequest:
    """What the user wants of the cluster.

    Attributes:
        num_workers: workers on CPUs; None takes one a CPU, as far as they fit.
        num_gpu_workers: workers that have a GPU; None takes one a GPU.
        worker_cpus: CPUs that each worker reserves.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``, of the rendering.

    Raises:
        UsageError: values that go with no cluster.
    """

    num_workers: int | None = None
    num_gpu_workers: int | None = None
    worker_cpus: float = WORKER_CPUS
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.num_workers is not None and self.num_workers < 1:
            raise UsageError(f"--workers {self.num_workers}: give at least 1")
        is_whole = math.isfinite(self.worker_cpus) and self.worker_cpus % 1 == 0
        if not self.worker_cpus > 0 or (not self.worker_cpus <= 1 and not is_whole):
            raise UsageError(
                f"--worker-cpus {self.worker_cpus:g}: give a part of a CPU, or whole CPUs"
            )
        least = 1 if self.device == "cuda" else 0
        if self.num_gpu_workers is not None and self.num_gpu_workers < least:
            raise UsageError(f"--gpu-workers {self.num_gpu_workers}: give at least {least}")
        if self.num_gpu_workers and self.device == "cpu":
            raise UsageError(
                f"--gpu-workers {self.num_gpu_workers} and --device cpu exclude each other"
            )


def choose_pools(nodes: Sequence[Node], request: PoolRequest) -> tuple[Pool, ...]:
    """One worker a CPU for everything; where there are GPUs, one worker a GPU renders.

    Args:
        nodes: the resources of each node that is alive, as Ray counts them.

    Raises:
        MissingDependencyError: a GPU is asked for and the cluster has none.
        UsageError: workers that the nodes cannot hold.
    """
    num_gpu_workers, free = _place_gpu_workers(nodes, request)
    room = sum(int(cpus / request.worker_cpus + _ROUNDING) for cpus in free)
    cpus = sum(int(node.get("CPU", 0)) for node in nodes)
    wanted = max(1, min(cpus, room)) if request.num_workers is None else request.num_workers
    if wanted > room:
        advice = f"at most --workers {room}" if room else "a smaller --worker-cpus"
        beside = f" beside {num_gpu_workers} GPU workers" if num_gpu_workers else ""
        raise UsageError(
            f"{wanted} workers at {request.worker_cpus:g} CPU each do not fit{beside}: the Ray "
            f"cluster has {_describe(nodes)} and holds {room}; give {advice}"
        )
    if not num_gpu_workers:
        return (Pool(ALL_STAGES, wanted, num_cpus=request.worker_cpus),)
    return (  # those that fit on few nodes start first
        Pool(GPU_STAGES, num_gpu_workers, num_gpus=1, num_cpus=request.worker_cpus),
        Pool(ALL_STAGES - GPU_STAGES, wanted, num_cpus=request.worker_cpus),
    )


def _place_gpu_workers(nodes: Sequence[Node], request: PoolRequest) -> tuple[int, list[float]]:
    """How many, and the CPUs that they leave on each node."""
    num_gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if request.device == "cuda" and not num_gpus:
        raise MissingDependencyError("no GPU in the Ray cluster; use --device cpu")
    wanted = num_gpus if request.num_gpu_workers is None else request.num_gpu_workers
    if request.device == "cpu":
        wanted = 0
    if wanted > num_gpus:
        raise UsageError(
            f"--gpu-workers {wanted}: each takes a whole GPU, and the Ray cluster has "
            f"{_describe(nodes)}; give at most --gpu-workers {num_gpus}"
        )
    missing, free = wanted, []
    for node in nodes:
        cpus = node.get("CPU", 0.0)
        here = min(missing, int(node.get("GPU", 0)), int(cpus / request.worker_cpus + _ROUNDING))
        missing -= here
        free.append(cpus - here * request.worker_cpus)
    if missing:
        raise UsageError(
            f"{wanted} GPU workers need {request.worker_cpus:g} CPU each on the node of their GPU: "
            f"the Ray cluster has {_describe(nodes)} and holds {wanted - missing}; "
            "give a smaller --worker-cpus or fewer --gpu-workers"
        )
    return wanted, free


def _describe(nodes: Sequence[Node]) -> str:
    """``2 CPUs``, or per node ``4 CPUs + 1 GPU, 8 CPUs``."""
    return ", ".join(
        " + ".join(
            f"{node[kind]:g} {kind}{'s' if node[kind] != 1 else ''}"
            for kind in ("CPU", "GPU")
            if node.get(kind)
        )
        or "a node without CPUs"
        for node in nodes
    )
