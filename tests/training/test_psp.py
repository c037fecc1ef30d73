"""pSp's and e4e's trainer: losses of the papers, offsets that join in turn, exact resume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.packs.tiny import write_tiny_pack
from tests.training.runs import LOOP, check_resumes_exactly
from tests.training.test_pack_stages import experiment
from training.judges import JudgesConfig
from training.loop import Loop, make_batch
from training.psp import PspStage, PspTask
from training.start import build
from vidinv.errors import VidinvError
from vidinv.inversion.psp_encoder import PspConfig

SIZES = PspConfig(input_resolution=64, widths=(4, 4, 8, 8), blocks=(1, 1, 1, 1))
L2_ALONE = JudgesConfig(pixel="l2", perceptual="none", identity_weight=0.0, adversary=None)
E4E = {
    "psp": replace(SIZES, rows="offsets"), "norm_weight": 0.0, "offset_weight": 2e-4,
    "latent_weight": 0.1, "first_offset_images": 16, "next_offset_images": 8,
}  # fmt: skip
KINDS = {"psp": {}, "e4e": E4E, "restyle": {"psp": replace(SIZES, steps=2, pyramid=False)}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny")


def stage(folder, **changes) -> PspStage:
    common = {"loop": LOOP, "pack": str(folder), "psp": SIZES, "judges": L2_ALONE}
    return PspStage(**{**common, "learning_rate": 1e-3, **changes})


def make_task(config: PspStage) -> PspTask:
    torch.manual_seed(0)
    return PspTask(config)


def make_loop(faces, folder, config) -> Loop:
    folder.mkdir(exist_ok=True)
    return Loop(make_task(config), faces, config.loop, folder)


@pytest.mark.parametrize("kind", ["psp", "e4e"])
def test_a_run_that_is_killed_resumes_to_the_same_losses(
    faces, folder, tmp_path, quick_checkpoints, kind
):
    config = stage(folder, loop=replace(LOOP, total_images=56), **KINDS[kind])
    check_resumes_exactly(lambda name: make_loop(faces, tmp_path / name, config))


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_from_the_mean_face_on_and_the_generator_stands_still(faces, folder, kind):
    config = stage(folder, **{**KINDS[kind], "learning_rate": 0.01})
    task, batch = make_task(config), make_batch(faces, np.arange(8))
    generator = {k: v.clone() for k, v in task.generator.state_dict().items()}
    mean = task.generator.synthesis(task.mean_latents()[None])
    _, rows = task.evaluate({"encoder": task.encoder}, batch)
    torch.testing.assert_close(rows[1], mean.expand_as(rows[1]), rtol=0, atol=1e-4)
    task.encoder.train()
    found = [float(task.step(batch, n, lambda p: None)["pixel"].detach()) for n in range(20)]
    assert found[-1] < 0.93 * found[0]
    assert all(torch.equal(v, generator[k]) for k, v in task.generator.state_dict().items())


def test_a_step_of_psp_follows_the_gradient_of_its_loss(faces, folder):
    """L2 and the norm of the codes, with the paper's weights, on the pictures of these latents."""
    task, batch = make_task(stage(folder, norm_weight=0.005)), make_batch(faces, np.arange(8))
    for head in task.encoder.styles:
        torch.nn.init.normal_(head.linear.weight)
    latents = task.inverter.advance(task.encoder.resize(batch.images), task.inverter.start(8))
    picture = task.generator.synthesis(latents)
    norm = (latents - task.mean_latents()).flatten(1).norm(dim=1).mean()
    loss = (picture - batch.images).square().mean() + 0.005 * norm
    expected = torch.autograd.grad(loss, list(task.encoder.parameters()))
    metrics = task.step(batch, 0, lambda p: None)
    assert float(metrics["norm"].detach()) == pytest.approx(float(norm.detach()), rel=1e-4)
    for parameter, gradient in zip(task.encoder.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def test_a_step_of_e4e_adds_its_terms(faces, folder):
    flags = {"learning_rate": 0.0, "first_offset_images": 0, "psp": E4E["psp"]}
    plain = make_task(stage(folder, **flags, norm_weight=0.0))
    task = make_task(stage(folder, **{**E4E, **flags, "offset_weight": 0.5}))
    for head in task.encoder.styles:
        torch.nn.init.normal_(head.linear.weight)
    plain.encoder.load_state_dict(task.encoder.state_dict())
    batch = make_batch(faces, np.arange(8))
    latents = task.inverter.advance(task.encoder.resize(batch.images), task.inverter.start(8))
    apart = (latents[:, 1:] - latents[:, :1]).norm(dim=2).sum(dim=1).mean()
    scores = task.latent_discriminator(latents.flatten(0, 1))
    loss = 0.5 * apart - 0.1 * scores.sigmoid().log().mean()
    expected = torch.autograd.grad(loss, list(task.encoder.parameters()))
    assert {"offset", "latent", "latent_discriminator", "latent_r1"} <= set(
        task.step(batch, 0, lambda p: None)
    )
    plain.step(batch, 0, lambda p: None)
    pairs = zip(task.encoder.parameters(), plain.encoder.parameters(), expected, strict=True)
    for ours, without, gradient in pairs:
        torch.testing.assert_close(ours.grad - without.grad, gradient, rtol=1e-2, atol=1e-4)


def test_offsets_join_one_after_the_other(faces, folder):
    task = make_task(stage(folder, **E4E))
    counts = [task.offsets_at(images) for images in (0, 15, 16, 23, 24, 32, 800)]
    assert counts == [0, 0, 1, 1, 2, 3, 99]
    assert make_task(stage(folder, psp=E4E["psp"])).offsets_at(0) is None
    for head in task.encoder.styles:
        torch.nn.init.normal_(head.linear.weight)
    x = task.encoder.resize(make_batch(faces, np.arange(4)).images)
    task.encoder.eval()
    full = task.encoder(x)
    for count in (0, 2, 99):
        codes = task.encoder(x, offsets=count)
        assert torch.equal(codes[:, : 1 + count], full[:, : 1 + count])
        assert torch.equal(codes[:, 1 + count :], full[:, :1].expand_as(full)[:, 1 + count :])
        judged = task._judged_rows(codes, count)
        assert len(judged) == 4 * min(1 + count, full.shape[1])


def test_the_latents_discriminator_learns_which_w_are_the_mappings(faces, folder):
    task = make_task(stage(folder, **{**E4E, "learning_rate": 0.0, "latent_learning_rate": 0.03}))
    task.encoder.latent_avg.add_(2.0)
    batch = make_batch(faces, np.arange(8))
    found = [
        float(task.step(batch, n, lambda p: None)["latent_discriminator"].detach())
        for n in range(9)
    ]
    assert found[-1] < 0.7 * found[0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"offset_weight": 1e-4}, "need psp: {rows: offsets}"),
        ({"first_offset_images": 8}, "need psp: {rows: offsets}"),
        ({"next_offset_images": 0}, "must be at least 1"),
        ({"psp": {"rows": "delta"}}, "expected one of 'own', 'offsets'"),
        ({"judges": {"pixel": "none", "perceptual": "none"}}, "pixel or perceptual must judge"),
    ],
)
def test_faults_of_an_experiment_are_said_in_one_line(folder, tmp_path, fields, said):
    loop = {"total_images": 8, "batch": 8}
    path = experiment(
        tmp_path / "stage.yaml", **{"pack": str(folder), "loop": loop, "psp": {}, **fields}
    )
    with pytest.raises(VidinvError, match=said) as caught:
        build("psp", path)
    assert "\n" not in str(caught.value)
