"""Two workers: killed and resumed, out of memory, under torchrun and Ray Train; one run for all."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
import yaml
from safetensors.torch import load_file

import training.start
from tests.training.runs import losses
from tests.training.test_loop import TINY, MeanColour
from training.group import join, leave
from training.loop import Loop
from training.request import TrainingRequest
from training.start import run, train
from training.weights import WEIGHTS_FILE
from vidinv.errors import UsageError

CONFIG = {
    "train_resolution": 32,
    "generator": {
        "resolution": 32, "channel_base": 256, "channel_max": 16, "z_dim": 16, "w_dim": 16,
    },
    "encoder": {"input_resolution": 32, "widths": [8] * 4, "blocks": [1] * 4, "feature_width": 0},
    "judges": {"perceptual": "none", "identity_weight": 0, "adversary": {"projected": False}},
    "loop": {
        "total_images": 192, "batch": 4, "workers": 2, "device": "cpu", "warmup_images": 8,
        "decay_images": 16, "log_images": 24, "checkpoint_images": 96,
    },
}  # fmt: skip
STEPS = 24  # a checkpoint after every twelfth


@pytest.fixture(scope="module")
def request_of(faces, tmp_path_factory):
    """What a run in a folder of the given name is asked for."""
    root = tmp_path_factory.mktemp("group")
    arrays = {
        "faces32": faces.images_M3RR,
        "weights": faces.weights_M,
        "targets": faces.targets_MA,
        "landmarks": faces.landmarks_M,
        "split": faces.is_train_M,
    }
    for name, array in arrays.items():
        np.save(root / f"{name}.npy", array)
    (root / "gan.yaml").write_text(yaml.safe_dump(CONFIG))
    return lambda name, **how: TrainingRequest("gan", root / "gan.yaml", root / name, root, **how)


def forked(rank: int, request: TrainingRequest, hangs_at: int | None) -> None:
    if hangs_at is not None and rank == 0:
        hang_in_step(hangs_at, request.out)
    rendezvous = f"file://{request.out}/rendezvous"
    join(rank, 2, local_rank=rank, rendezvous=rendezvous, on_gpu=False)
    run(request)
    leave()


def hang_in_step(number: int, folder: Path) -> None:
    """In this process: the step tells by a file that it is there, and waits for its end."""
    build = training.start.build

    def with_hanging_step(kind, path):
        config, task = build(kind, path)
        take_step = task.step

        def step(batch, current, average):
            if current == number:
                (folder / "now").touch()
                time.sleep(300)
            return take_step(batch, current, average)

        task.step = step
        return config, task

    training.start.build = with_hanging_step


def start(request: TrainingRequest, *, hangs_at: int | None = None) -> mp.ProcessContext:
    """The two workers, which share what this process has imported."""
    request.out.mkdir(exist_ok=True)
    args, wait = (request, hangs_at), hangs_at is None
    return mp.start_processes(forked, args=args, nprocs=2, join=wait, start_method="fork")


@pytest.fixture(scope="module")
def whole(request_of) -> Path:
    request = request_of("whole")
    start(request)
    return request.out


def assert_same(folder: Path, whole: Path) -> None:
    assert losses(folder) == losses(whole)
    ours, theirs = (load_file(path / WEIGHTS_FILE) for path in (folder, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_two_workers_killed_at_a_random_step_resume_to_the_same_losses(whole, request_of):
    request, step = request_of("killed"), int(np.random.default_rng().integers(1, STEPS))
    workers = start(request, hangs_at=step)
    while not (request.out / "now").exists():
        time.sleep(0.01)
    for pid in workers.pids():
        os.kill(pid, signal.SIGKILL)
    for process in workers.processes:
        process.join()
    latest = request.out / "latest.pt"
    assert latest.exists() == (step >= STEPS // 2)
    train(replace(request, resume=True))
    assert_same(request.out, whole)


def test_torchrun_starts_the_same_run(whole, request_of, monkeypatch):
    request = request_of("launched")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    monkeypatch.setenv("WORLD_SIZE", "2")
    mp.start_processes(launched, args=(request,), nprocs=2, start_method="fork")
    assert_same(request.out, whole)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UsageError, match=r"loop\.workers is 2, but torchrun started 3"):
        train(replace(request, resume=True))


def launched(rank: int, request: TrainingRequest) -> None:
    """What torchrun does for a worker."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    train(request)


def test_all_workers_take_a_step_anew_where_one_ran_out_of_memory(faces, tmp_path):
    """In the second step, by its own work, and by the message that averages the gradients."""
    for name in ("none", "work", "message"):
        (tmp_path / name).mkdir()
        args = (faces, tmp_path / name)
        mp.start_processes(short_of_memory, args=args, nprocs=2, start_method="fork")
    for name in ("work", "message"):
        ours, theirs = (load_file(tmp_path / folder / WEIGHTS_FILE) for folder in (name, "none"))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        notes = [line["note"] for line in losses(tmp_path / name) if "note" in line]
        assert notes == ["out of memory: batch 4 instead of 8, accumulate 2"]


@pytest.mark.parametrize("what", ["optimizer", "regulariser"])
def test_all_workers_end_where_one_runs_out_of_memory_after_an_average(faces, tmp_path, what):
    """The other one has stepped, or is about to: no attempt anew could leave both with the same."""
    folder = tmp_path / what
    folder.mkdir()
    mp.start_processes(short_of_memory, args=(faces, folder), nprocs=2, start_method="fork")
    for rank in (0, 1):
        said = (folder / f"said{rank}").read_text()
        assert "lower loop.batch" in said
        assert "--resume" in said


def short_of_memory(rank: int, faces, folder: Path) -> None:
    """A run whose second worker lacks memory for what the folder is named after."""
    join(rank, 2, local_rank=rank, rendezvous=f"file://{folder}/rendezvous", on_gpu=False)
    config, what = replace(TINY, workers=2), folder.name if rank else "none"
    task = MeanColour(
        config,
        dies_at=(2,) if what == "work" else (),
        dies_late=(2,) if what == "regulariser" else (),
    )
    if what == "message":
        torch.cat = fails_once(torch.cat)
    if what == "optimizer":
        task.optimizers["colour"].step = fails_once(task.optimizers["colour"].step)
    try:
        Loop(task, faces, config, folder).run()
    except UsageError as error:
        (folder / f"said{rank}").write_text(str(error))
    leave()


def fails_once(allocate: Callable[..., Any]) -> Callable[..., Any]:
    left = ["no more of it"]

    def or_fail(*args: Any, **how: Any) -> Any:
        if left:
            raise torch.OutOfMemoryError(left.pop())
        return allocate(*args, **how)

    return or_fail


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray about itself
def test_workers_of_ray_train_give_the_losses_of_the_run_without_ray(whole, request_of, local_ray):
    pytest.importorskip("pyarrow", reason="needs Ray Train: pip install -e '.[cluster]'")
    request = request_of("ray", ray=True)
    train(request)
    assert_same(request.out, whole)
