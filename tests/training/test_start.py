"""What starts a run: options that do not go together, GPUs that are not there, faults in a line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.multiprocessing as mp
import yaml

import training.start
from tests.training.test_group import CONFIG
from training.group import check_gpus
from training.request import TrainingRequest
from training.start import KINDS, WRITERS, main, train
from training.worker_errors import last_line, own_error
from vidinv.cli.tools import KINDS as NAMED
from vidinv.errors import UsageError, VidinvError


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("mapping", {"dry_run": True}, "mapping writes a pack .* leave out --dry-run"),
        ("refit", {"ray": True}, "leave out --ray"),
        ("directions", {"resume": True}, "leave out --resume"),
        ("gan", {"dry_run": True, "ray": True}, "--dry-run takes .* leave out --ray"),
        ("gan", {"dry_run": True, "resume": True}, "leave out --resume"),
    ],
)
def test_no_option_is_ignored(tmp_path, kind, options, said):
    request = TrainingRequest(kind, tmp_path / "none.yaml", tmp_path / "out", **options)
    with pytest.raises(UsageError, match=said):
        train(request)


def test_torchrun_starts_no_rehearsal_and_no_ray(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for options, said in (({"dry_run": True}, "leave out torchrun"), ({"ray": True}, "either")):
        with pytest.raises(UsageError, match=said):
            train(TrainingRequest("gan", tmp_path / "none.yaml", tmp_path, **options))


def test_more_workers_than_gpus_are_refused_before_they_start(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_gpus(1)
    with pytest.raises(UsageError, match="2 workers need a GPU each, and there are 1 here"):
        check_gpus(2)


def test_the_command_line_knows_all_kinds():
    assert set(NAMED) == {*KINDS, *WRITERS}


def test_a_workers_fault_is_said_in_its_own_words(tmp_path, monkeypatch):
    def fork(function, args, nprocs):
        mp.start_processes(function, args, nprocs, start_method="fork")

    monkeypatch.setattr(training.start.mp, "spawn", fork)
    config = tmp_path / "gan.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, "init": str(tmp_path / "nowhere")}))
    with pytest.raises(UsageError, match=r"nowhere: expected the folder of a run") as caught:
        train(TrainingRequest("gan", config, tmp_path / "run", tmp_path))
    assert "\n" not in str(caught.value)


ORPHAN = """
import multiprocessing, time
from training.start import end_with_parent
def work():
    end_with_parent()
    print("works", flush=True)
    time.sleep(300)
worker = multiprocessing.get_context("fork").Process(target=work)
worker.start()
worker.join()
"""


def test_workers_end_with_a_run_that_is_killed():
    """They hold its standard output, which ends with the last of them."""
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"works\n"
        run.kill()
        rest, _ = run.communicate(timeout=30)
        assert rest == b""


def test_faults_that_nobody_raised_on_purpose_are_told_apart():
    text = "Traceback:\n  File x\nvidinv.errors.UnknownNameError: unknown key 'a'\n"
    error = own_error(text)
    assert isinstance(error, UsageError)
    assert str(error) == "unknown key 'a'"
    damaged = own_error("vidinv.errors.PackError: pack.json is damaged")
    assert type(damaged) is VidinvError
    assert own_error("Traceback:\nKeyError: 'a'\n") is None
    assert last_line("Traceback:\nKeyError: 'a'\n\n") == "KeyError: 'a'"


def test_python_m_training_says_a_fault_in_one_line(tmp_path, monkeypatch, capsys):
    arguments = ["gan", "--config", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["training", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code in (1, 2)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert "none.yaml" in said[0]


@pytest.mark.parametrize(
    ("device", "cluster", "use_gpu"),
    [
        ("cuda", {}, True), ("auto", {"GPU": 8.0}, True), ("auto", {"CPU": 2.0}, False),
        ("cpu", {"GPU": 8.0}, False),
    ],
)  # fmt: skip
def test_ray_gives_gpus_as_the_cluster_has_them_and_says_a_fault_in_one_line(
    tmp_path, monkeypatch, device, cluster, use_gpu
):
    """This machine has none."""
    pytest.importorskip("pyarrow", reason="needs Ray Train: pip install -e '.[cluster]'")
    import ray
    import ray.train.torch
    from ray.train.v2.api.exceptions import WorkerGroupError

    from training.on_ray import train_on_ray

    class FailingTrainer:
        def __init__(self, worker, *, scaling_config, torch_config, **rest):
            assert scaling_config.use_gpu == use_gpu
            assert torch_config.backend == ("nccl" if use_gpu else "gloo")

        def fit(self):
            text = "Traceback:\n  File x\n{}: first\n"
            failures = {1: text.format("RuntimeError"), 0: text.format("vidinv.errors.UsageError")}
            raise WorkerGroupError("two of them\nmany lines", failures)

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: cluster)
    monkeypatch.setattr(ray.train.torch, "TorchTrainer", FailingTrainer)
    request = TrainingRequest("gan", tmp_path / "gan.yaml", tmp_path / "out", tmp_path)
    with pytest.raises(UsageError, match=r"^first$"):
        train_on_ray(request, 2, device)
