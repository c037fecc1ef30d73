"""The trainer of adaptive-block encoders: its losses, strategies, resume and faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from tests.packs.tiny import write_tiny_pack
from tests.training.runs import LOOP, PIXELS_ALONE, check_resumes_exactly
from training.adaptive import AdaptiveStage, AdaptiveTask
from training.loop import Loop, make_batch
from training.start import build
from vidinv.errors import VidinvError
from vidinv.inversion.adaptive import AdaptiveConfig
from vidinv.inversion.adaptive_loss import ImageLoss, vector_difference
from vidinv.inversion.attention import crops
from vidinv.metrics.structure import pixel_structure_distance
from vidinv.packs import load_pack


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny")


def make_task(folder, **changes) -> AdaptiveTask:
    torch.manual_seed(0)
    adaptive = AdaptiveConfig(4, 8)
    fields = {"loop": LOOP, "pack": str(folder), "judges": PIXELS_ALONE, "adaptive": adaptive}
    return AdaptiveTask(AdaptiveStage(**fields | changes))


def test_a_run_that_is_killed_resumes_to_the_same_losses(
    faces, folder, tmp_path, quick_checkpoints
):
    def make_loop(name: str) -> Loop:
        task = make_task(folder, synthetic=0.5)
        (tmp_path / name).mkdir(exist_ok=True)
        return Loop(task, faces, replace(LOOP, total_images=56), tmp_path / name)

    check_resumes_exactly(make_loop)


@pytest.mark.parametrize("synthetic", [0.0, 1.0])
def test_it_learns_pictures_and_nothing_of_the_generator(faces, folder, synthetic):
    task = make_task(folder, synthetic=synthetic, strategy="s1", learning_rate=0.01)
    batch = make_batch(faces, np.arange(8))
    before = {k: v.clone() for k, v in task.generator.state_dict().items()}
    found = []
    for number in range(25):
        torch.manual_seed(5)  # the same generated pictures each time
        found.append(float(task.step(batch, number, lambda p: None)["image"]))
    assert found[-1] < 0.9 * found[0]
    assert all(torch.equal(v, before[k]) for k, v in task.generator.state_dict().items())


@pytest.mark.parametrize(
    ("strategy", "weights"), [("s1", (1.0, 1.0)), ("s2", (5.0, 9.0)), ("none", None)]
)
def test_strategies_weigh_the_crops_as_the_paper_has_them(faces, folder, strategy, weights):
    task, images = make_task(folder, strategy=strategy), make_batch(faces, np.arange(4)).images
    other = images.roll(1, dims=0)
    loss = ImageLoss(pixel_structure_distance, crops)
    expected = loss.difference(other, images)
    for weight, (source, picture) in zip(weights or (), crops(images, other), strict=False):
        expected = expected + weight * loss.difference(picture, source)
    torch.testing.assert_close(task.loss(other, images), expected)


def test_of_generated_pictures_the_true_latents_are_known(faces, folder):
    task = make_task(folder, synthetic=0.5)
    images = make_batch(faces, np.arange(8)).images
    source, latents = task._sources(images)
    assert torch.equal(source[4:], images[4:])
    torch.testing.assert_close(source[:4], task.generator.synthesis(latents))
    torch.manual_seed(7)
    metrics = task.step(make_batch(faces, np.arange(8)), 0, lambda p: None)
    task = make_task(folder, synthetic=0.5)
    torch.manual_seed(7)
    source, latents = task._sources(images)
    found, codes = task.inverter.run(source)
    constant = task.generator.synthesis.constant_1CHW.expand(4, -1, -1, -1)
    expected = vector_difference(found[:4], latents)
    expected = expected + vector_difference(codes["constant"][:4], constant)
    torch.testing.assert_close(metrics["latent"], expected.mean())


def test_generated_pictures_may_be_those_of_photographs(faces, folder):
    task, images = make_task(folder, sampler="fse"), make_batch(faces, np.arange(4)).images
    source, latents = task._sources(images)
    assert torch.equal(latents, load_pack(folder).inverter("fse").encode_latents(images))
    torch.testing.assert_close(source, task.generator.synthesis(latents))


def test_without_image_gradients_the_latents_alone_are_learned(faces, folder):
    """As the public code of strategy S1 has it: pictures are cut off from the encoder."""
    batch, moved = make_batch(faces, np.arange(8)), []
    for weight in (0.0, 0.01):
        task = make_task(folder, latent_weight=weight, image_gradients=False)
        before = torch.cat([p.detach().flatten() for p in task.encoder.parameters()])
        metrics = task.step(batch, 0, lambda p: None)
        assert set(metrics) == {"latent"}  # no picture is made: twice the images a second
        after = torch.cat([p.detach().flatten() for p in task.encoder.parameters()])
        moved.append(bool((after - before).any()))
    assert moved == [False, True]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"synthetic": 1.5}, "synthetic must be a share"),
        ({"synthetic": 0.5, "image_gradients": False}, "nothing is learned of photographs"),
        ({"sampler": "wplus2"}, "wplus2"),
        ({"sampler": "pti"}, "pti is fitted to tracks"),
        ({"strategy": "s3"}, "expected one of"),
        ({"adaptive": {"width": 0}}, "widths must be"),
    ],
)
def test_faults_of_an_experiment_are_said_in_one_line(folder, tmp_path, fields, said):
    loop = {"total_images": 32, "batch": 8, "workers": 1}
    judges = {"perceptual": "none", "identity_weight": 0, "adversary": None}
    stage = {"pack": str(folder), "loop": loop, "judges": judges, "adaptive": {"width": 4}}
    path = tmp_path / "stage.yaml"
    path.write_text(yaml.safe_dump(stage | fields))
    with pytest.raises(VidinvError, match=said) as caught:
        build("adaptive", path)
    assert "\n" not in str(caught.value)
