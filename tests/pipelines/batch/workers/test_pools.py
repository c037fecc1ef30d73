"""How many workers a cluster gets, and plans that it cannot hold."""

from __future__ import annotations

import pytest

from pipelines.batch.workers.pools import ALL_STAGES, Pool, PoolRequest, choose_pools
from vidinv.errors import MissingDependencyError, UsageError

GPU_NODE = {"CPU": 8.0, "GPU": 2.0}


def test_without_a_gpu_a_worker_a_cpu_does_everything():
    assert choose_pools([{"CPU": 4.0}], PoolRequest()) == (Pool(ALL_STAGES, 4),)
    assert choose_pools([{"CPU": 4.0}, {"CPU": 2.0}], PoolRequest()) == (Pool(ALL_STAGES, 6),)
    assert choose_pools([{"CPU": 8.0}], PoolRequest(worker_cpus=2))[0].num_workers == 4


def test_gpus_are_taken_whole_and_render():
    gpu, cpu = choose_pools([GPU_NODE], PoolRequest(num_workers=6))
    assert gpu == Pool(frozenset({"render", "picture", "fit"}), 2, num_gpus=1)
    assert cpu == Pool(ALL_STAGES - {"render", "picture", "fit"}, 6)
    gpu, _ = choose_pools([GPU_NODE], PoolRequest(num_gpu_workers=1, worker_cpus=0.25))
    assert (gpu.num_workers, gpu.num_cpus) == (1, 0.25)


def test_gpus_may_be_left_alone():
    everything = (Pool(ALL_STAGES, 8),)
    assert choose_pools([GPU_NODE], PoolRequest(device="cpu")) == everything
    assert choose_pools([GPU_NODE], PoolRequest(num_gpu_workers=0)) == everything


@pytest.mark.parametrize(
    ("nodes", "request_", "message"),
    [
        (
            [{"CPU": 2.0}],
            PoolRequest(num_workers=9),
            r"9 workers at 0.5 CPU each do not fit: .* 2 CPUs and holds 4; .* at most --workers 4",
        ),
        (
            [{"CPU": 2.0}, {"CPU": 2.0}],
            PoolRequest(num_workers=1, worker_cpus=4),
            r"has 2 CPUs, 2 CPUs and holds 0; give a smaller --worker-cpus",
        ),
        (
            [{"CPU": 2.0}],
            PoolRequest(worker_cpus=4),
            r"1 workers at 4 CPU each do not fit: .* holds 0; give a smaller --worker-cpus",
        ),
        (
            [{"CPU": 2.0, "GPU": 1.0}],
            PoolRequest(num_gpu_workers=2),
            r"--gpu-workers 2: each takes a whole GPU, .* 2 CPUs \+ 1 GPU; .* --gpu-workers 1",
        ),
        (
            [{"GPU": 1.0}, {"CPU": 8.0}],
            PoolRequest(),
            r"1 GPU workers need 0.5 CPU each on .* their GPU: .* 1 GPU, 8 CPUs and holds 0",
        ),
        (
            [{"CPU": 1.0, "GPU": 2.0}],
            PoolRequest(),
            r"do not fit beside 2 GPU workers: .* holds 0",
        ),
    ],
)
def test_what_no_node_can_hold_is_refused(nodes, request_, message):
    with pytest.raises(UsageError, match=message):
        choose_pools(nodes, request_)


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(MissingDependencyError, match="no GPU"):
        choose_pools([{"CPU": 8.0}], PoolRequest(device="cuda"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_workers": 0}, "--workers 0: give at least 1"),
        ({"worker_cpus": 0.0}, "--worker-cpus 0: give a part of a CPU, or whole"),
        ({"worker_cpus": 1.5}, "--worker-cpus 1.5"),
        ({"worker_cpus": float("nan")}, "--worker-cpus nan: give a part of a CPU"),
        ({"worker_cpus": float("inf")}, "--worker-cpus inf"),
        ({"num_gpu_workers": -1}, "--gpu-workers -1: give at least 0"),
        ({"num_gpu_workers": 0, "device": "cuda"}, "--gpu-workers 0: give at least 1"),
        ({"num_gpu_workers": 1, "device": "cpu"}, "exclude each other"),
    ],
)
def test_values_that_go_with_no_cluster_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        PoolRequest(**fields)
