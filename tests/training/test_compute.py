"""Where a step computes and how precisely: no tensor of another device, losses in float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.packs.tiny import write_tiny_pack
from tests.training.runs import LOOP
from tests.training.test_adaptive import make_task as adaptive_task
from tests.training.test_pack_stages import stage as pack_stage
from tests.training.test_psp import E4E
from tests.training.test_psp import stage as psp_stage
from tests.training.test_stylegan import FROM_Z
from tests.training.test_training import F_FULL
from training.compute import choose_device
from training.feature_editor import FeatureEditorTask
from training.feature_style import FeatureStyleTask
from training.hyper import HyperTask
from training.judges import JudgesConfig
from training.loop import make_batch
from training.psp import PspTask
from training.rectifier import RectifierTask
from training.stylegan import StyleGanTask
from vidinv.errors import UsageError

OTHER = torch.device("meta")  # stands for a GPU: it has shapes and types, and no numbers
ALL_JUDGES = JudgesConfig(perceptual="efficientnet-lite0")
TASKS = ("encoder", "editor", "stylegan", "hyper", "rectifier", "psp", "adaptive")


class OneDevice(TorchDispatchMode):
    """Fails where an operator meets tensors of two devices, as a GPU's would.

    A single number of the CPU may join, as it may there.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        devices = {x.device for x in tensors if x.dim() or x.device == OTHER}
        assert len(devices) < 2, f"{func} of {[(x.device.type, tuple(x.shape)) for x in tensors]}"
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny")


def make_task(name: str, folder, **loop_changes):
    torch.manual_seed(0)
    loop = replace(LOOP, **loop_changes)
    if name in ("encoder", "editor"):
        task = FeatureStyleTask if name == "encoder" else FeatureEditorTask
        return task(replace(F_FULL, loop=loop, synthetic=0.5 if name == "encoder" else 0.0))
    if name == "stylegan":
        return StyleGanTask(replace(FROM_Z, loop=loop, r1_interval=16))
    if name == "psp":
        return PspTask(psp_stage(folder, loop=loop, **E4E))
    if name == "adaptive":
        return adaptive_task(folder, loop=loop, synthetic=0.5)
    if name == "rectifier":
        return RectifierTask(pack_stage(name, folder, loop=loop))
    return HyperTask(pack_stage(name, folder, loop=loop, judges=ALL_JUDGES))


@pytest.mark.parametrize("name", TASKS)
def test_a_step_makes_nothing_on_a_device_that_is_not_its_own(
    faces, folder, features, monkeypatch, name
):
    monkeypatch.setattr("training.judged.choose_device", lambda wish: OTHER)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)  # fused: not for OTHER
    task = make_task(name, folder)
    batch = make_batch(faces, np.arange(8)).to(OTHER)
    with OneDevice():
        for number in (16, 17):  # the adversary is there from 16 images on
            metrics = task.step(batch, number, lambda parameters: None)
    assert {value.device for value in metrics.values()} == {OTHER}


def test_a_device_that_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="no GPU here"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["encoder", "stylegan", "hyper", "rectifier", "psp", "adaptive"])
def test_bfloat16_is_for_networks_and_losses_stay_what_they_are(faces, folder, features, name):
    """The same step in both; pictures differ by what networks round, and so do the losses."""
    found = {}
    for precision in ("float32", "bfloat16"):
        task = make_task(name, folder, precision=precision, device="cpu")
        torch.manual_seed(1)
        if isinstance(task, FeatureStyleTask):  # an edit changes something, and so does F
            torch.nn.init.normal_(task.edits.cross_AD)
            torch.nn.init.normal_(task.encoder.feature_head.expand.weight)
        found[precision] = task.step(make_batch(faces, np.arange(8)), 16, lambda p: None)
    exact, rounded = found["float32"], found["bfloat16"]
    assert exact.keys() == rounded.keys()
    assert all(value.dtype == torch.float32 for value in rounded.values())
    for key, value in exact.items():
        if key != "adversarial_weight":
            torch.testing.assert_close(rounded[key], value, rtol=0.02, atol=0.01, msg=key)
    assert any(not torch.equal(rounded[key], value) for key, value in exact.items())
    gradients = [
        p.grad for o in task.optimizers.values() for g in o.param_groups for p in g["params"]
    ]
    assert all(g is None or g.dtype == torch.float32 for g in gradients)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TASKS)
def test_a_step_on_a_gpu_has_the_losses_of_the_cpu(faces, folder, features, name, precision):
    """Compared for the one that draws nothing: a GPU has random numbers of its own."""
    found = {}
    for device in ("cpu", "cuda"):
        task = make_task(name, folder, precision=precision, device=device)
        batch = make_batch(faces, np.arange(8)).to(task.compute.device)
        found[device] = task.step(batch, 16, lambda parameters: None)
        assert {value.device.type for value in found[device].values()} == {device}
        assert all(bool(torch.isfinite(value)) for value in found[device].values())
    if name == "hyper":
        expected, value = (found[device]["pixel"].cpu() for device in ("cpu", "cuda"))
        torch.testing.assert_close(value, expected, rtol=0.02, atol=0.01)
