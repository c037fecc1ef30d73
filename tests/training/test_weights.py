"""Weights to start from: a run's, a pack's, a file; what does not fit is said or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.packs.tiny import ENCODER, GENERATOR, write_tiny_pack
from training.adversary import AdversaryConfig
from training.config import load_yaml
from training.feature_style import EncoderConfig, FeatureStyleTask
from training.judges import JudgesConfig
from training.loop import LoopConfig
from training.weights import WEIGHTS_FILE, read_weights, write_weights
from vidinv.errors import UsageError

CONFIGS = Path(__file__).parents[2] / "configs"
PATCHES = JudgesConfig("none", identity_weight=0, adversary=AdversaryConfig(projected=False))
CONFIG = EncoderConfig(
    generator=GENERATOR,
    encoder=replace(ENCODER, editor_width=4),
    loop=LoopConfig(total_images=8),
    train_resolution=32,
    judges=PATCHES,
    edit_feature_weight=0.0,
)


def make_task(seed: int, **changes) -> FeatureStyleTask:
    torch.manual_seed(seed)
    return FeatureStyleTask(replace(CONFIG, **changes))


def state_of(task: FeatureStyleTask) -> dict[str, dict[str, torch.Tensor]]:
    return {name: module.state_dict() for name, module in task.modules.items()}


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_run_gives_all_its_modules(tmp_path):
    task, other = make_task(0), make_task(1)
    write_weights(tmp_path / WEIGHTS_FILE, state_of(task), 480)
    assert read_weights(tmp_path).images_seen == 480
    for path in (tmp_path, tmp_path / WEIGHTS_FILE):
        other = make_task(1)
        assert not same(other.encoder, task.encoder)
        other.initialise(path)
        for name, module in task.modules.items():
            assert same(other.modules[name], module), name
        assert other.start == f"{path}; begun anew: nothing"


def test_a_balance_of_the_adversary_is_measured_anew(tmp_path):
    task, other = make_task(0), make_task(1)
    task.judges.adversary.balance.fill_(0.5)
    write_weights(tmp_path / WEIGHTS_FILE, state_of(task), 0)
    other.initialise(tmp_path)
    assert other.judges.adversary.balance.isnan()


def test_a_pack_gives_generator_and_encoder_and_the_rest_begins_anew(tmp_path):
    folder = write_tiny_pack(tmp_path / "tiny")
    task = make_task(1)
    task.initialise(folder)
    packed = read_weights(folder).modules
    for name in ("generator", "encoder"):
        state = task.modules[name].state_dict()
        assert all(torch.equal(state[key], value) for key, value in packed[name].items())
    assert task.start.endswith("begun anew: adversary, edits, feature_editor, probe")


def test_a_file_may_lack_the_mapping_and_have_the_older_names_of_the_feature_head(tmp_path):
    """As the files of ../shared/weights: ``look`` and ``compare``, no mapping, no balance."""
    task, other = make_task(0), make_task(1)
    tensors = {
        f"{module}.{key}".replace(".project.", ".look.").replace(".fuse.", ".compare."): value
        for module, state in state_of(task).items()
        for key, value in state.items()
        if not key.startswith("mapping.") and not key.endswith(("num_batches_tracked", "balance"))
    }
    assert any(".look." in key for key in tensors)
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, tmp_path / "a.safetensors")
    other.initialise(tmp_path / "a.safetensors")
    assert same(other.encoder, task.encoder)
    assert same(other.judges.adversary, task.judges.adversary)
    assert same(other.generator.synthesis, task.generator.synthesis)
    assert other.start.endswith("begun anew: nothing")


@pytest.mark.parametrize(
    ("stage", "anew"),
    [("w", "edits, feature_editor, row_head"), ("f", "feature_editor, row_head")],
)
def test_the_trials_weights_start_the_f_stage(shared_dir, stage, anew):
    config = load_yaml(EncoderConfig, CONFIGS / "faces_fse128.yaml")
    judges = JudgesConfig("none", identity_weight=0)
    task = FeatureStyleTask(replace(config, judges=judges, edit_feature_weight=0.0))
    task.initialise(shared_dir / "weights" / f"trial128_{stage}.safetensors")
    assert task.start.endswith(f"begun anew: {anew}")


@pytest.mark.parametrize(
    "grown",
    [{"feature_width": 24}, {"feature_depth": 2}, {"feature_width": 24, "feature_depth": 1}],
)
def test_a_larger_feature_head_starts_as_the_smaller_one(tmp_path, grown):
    task = make_task(0)
    nn.init.normal_(task.encoder.feature_head.expand.weight)
    write_weights(tmp_path / WEIGHTS_FILE, state_of(task), 0)
    wider = make_task(1, encoder=replace(CONFIG.encoder, **grown))
    wider.initialise(tmp_path)
    assert wider.start.endswith("begun anew: nothing")
    task.encoder.eval()
    stage, generated = seen_by_the_head(task)
    expected, found = (t.encoder.eval().feature_residual(stage, generated) for t in (task, wider))
    assert expected.abs().mean() > 0.1
    torch.testing.assert_close(found, expected)
    found.square().mean().backward()  # and the new channels learn from the first step on
    assert wider.encoder.feature_head.expand.weight.grad[:, -8:].abs().min() > 0


def seen_by_the_head(task: FeatureStyleTask) -> tuple[torch.Tensor, torch.Tensor]:
    """A made-up stage of the trunk and made-up features of the generator."""
    with torch.no_grad():
        encoded, _ = task._invert(torch.randn(2, 3, 32, 32), task.generator, task.encoder)
        stage = task.encoder(torch.randn(2, 3, 32, 32))[1]
    return stage, torch.randn_like(encoded.base_NCHW)


def test_a_narrower_feature_head_begins_anew(tmp_path):
    task = make_task(0)
    write_weights(tmp_path / WEIGHTS_FILE, state_of(task), 0)
    narrower = make_task(1, encoder=replace(CONFIG.encoder, feature_width=2))
    narrower.initialise(tmp_path)
    assert narrower.start.endswith("begun anew: feature_head")
    assert torch.equal(narrower.encoder.latent_head.weight, task.encoder.latent_head.weight)


def test_w_plus_through_a_bottleneck_starts_from_w(tmp_path):
    task = make_task(0)
    write_weights(tmp_path / WEIGHTS_FILE, state_of(task), 0)
    encoder = replace(CONFIG.encoder, latent_space="w+", row_width=4)
    rows = make_task(1, encoder=encoder)
    rows.initialise(tmp_path)
    assert rows.start.endswith("begun anew: row_head")
    faces = torch.randn(2, 3, 32, 32)
    expected, found = (t.encoder.eval()(faces)[0] for t in (task, rows))
    torch.testing.assert_close(found, expected)
    nn.init.normal_(rows.encoder.row_head[-1].weight)
    assert (rows.encoder(faces)[0] - found).std(dim=1).min() > 0  # every row has its own w
    with pytest.raises(ValueError, match="row_width"):
        replace(encoder, latent_space="w")


@pytest.mark.parametrize(
    ("changes", "module"),
    [
        ({"encoder": replace(ENCODER, blocks=(2, 1, 1, 1))}, "encoder"),
        ({"encoder": replace(ENCODER, widths=(4, 4, 8, 16))}, "encoder"),
        ({"generator": replace(GENERATOR, channel_max=16)}, "generator"),
    ],
)
def test_other_sizes_are_refused(tmp_path, changes, module):
    write_weights(tmp_path / WEIGHTS_FILE, state_of(make_task(0)), 0)
    with pytest.raises(UsageError, match=f"{module} does not fit: "):
        make_task(1, **changes).initialise(tmp_path)


def test_what_is_no_weights_is_one_line(tmp_path):
    (tmp_path / "latest.pt").write_bytes(b"not safetensors")
    for path in (tmp_path, tmp_path / "latest.pt", tmp_path / "missing"):
        with pytest.raises(UsageError, match="expected the folder of a run or a pack") as caught:
            read_weights(path)
        assert "\n" not in str(caught.value)
    save_file({"encoder.x": torch.zeros(1)}, tmp_path / "half.safetensors")
    with pytest.raises(UsageError, match="no weights of the generator"):
        make_task(0).initialise(tmp_path / "half.safetensors")
