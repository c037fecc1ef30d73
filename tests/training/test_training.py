"""The loop resumes exactly, tasks learn, configuration faults are named; on made-up faces."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import training.group
from tests.training.runs import LOOP, PIXELS_ALONE, kill_at, losses, parameters
from training.adversary import Adversary, AdversaryConfig
from training.build_pack import smile_tensors
from training.data import ATTRIBUTES, attribute_targets
from training.feature_editor import FeatureEditorTask
from training.feature_style import (
    EditChange,
    EditDirections,
    EncoderConfig,
    FeatureStyleTask,
    edit_weights,
    labelled,
)
from training.fit_directions import conditional_directions, photographic_conditions
from training.gan import GanConfig, GanTask
from training.judges import JudgesConfig, leaf, through
from training.loop import FLIP_68, Loop, LoopConfig, learning_rate_factor, make_batch
from training.mapping import set_gaussian_mapping
from training.terms import View
from training.weights import write_weights
from vidinv.errors import UsageError
from vidinv.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from vidinv.inversion.fse import FeatureStyleInverter
from vidinv.inversion.fse_encoder import FeatureStyleConfig, FeatureStyleEncoder
from vidinv.metrics.attributes import SmileMeasure

GENERATOR = StyleGAN2Config(32, channel_base=256, channel_max=16, z_dim=16, w_dim=16)
ENCODER = FeatureStyleConfig(
    input_resolution=32,
    widths=(8, 8, 8, 8),
    blocks=(1, 1, 1, 1),
    feature_layer=3,
    feature_width=4,
    editor_width=4,
)
PATCHES = replace(PIXELS_ALONE, adversary=AdversaryConfig(start_images=16, projected=False))
W_CONFIG = GanConfig(
    generator=GENERATOR,
    encoder=replace(ENCODER, feature_width=0),
    loop=LOOP,
    train_resolution=32,
    judges=PATCHES,
)
CONFIG = EncoderConfig(
    generator=GENERATOR,
    encoder=ENCODER,
    loop=LOOP,
    train_resolution=32,
    judges=PATCHES,
    edit_feature_weight=0.0,
)
# Nothing but pixels: what the loop does depends on no judge.
PLAIN = replace(CONFIG, judges=PIXELS_ALONE, edit_weight=0.0)
# What the sharp stages are judged by.
ALL_JUDGES = JudgesConfig(perceptual="efficientnet-lite0")
W_FULL = replace(W_CONFIG, judges=ALL_JUDGES)
F_FULL = replace(CONFIG, judges=ALL_JUDGES, edit_feature_weight=0.125)


def test_a_pack_keeps_the_smile_measure_but_for_rounding():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 127, (68, 2))
    points[36:48] += np.repeat([[[-60.0, 0.0]], [[60.0, 0.0]]], 6, axis=1).reshape(12, 2)
    landmarks = points + rng.normal(size=(640, 68, 2))
    measure = SmileMeasure.fit(landmarks, landmarks[:, 54, 0] - landmarks[:, 48, 0])
    stored = smile_tensors(measure, landmarks)
    halved = {name: tensor.half().double().numpy() for name, tensor in stored.items()}
    again = SmileMeasure(halved["smile_weights"], float(halved["smile_bias"][0]))
    assert stored["smile_weights"].shape == (64,)
    scores = measure(landmarks)
    assert np.abs(again(landmarks) - scores).max() < 0.02 * scores.std()


def make_loop(faces, folder, total: int, config: GanConfig = PLAIN) -> Loop:
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    config = replace(config, loop=replace(config.loop, total_images=total))
    task = FeatureStyleTask(config) if isinstance(config, EncoderConfig) else GanTask(config)
    return Loop(task, faces, config.loop, folder)


STAGES = {"w": W_CONFIG, "F": CONFIG, "F, no edits": replace(CONFIG, edit_weight=0.0)}


@pytest.mark.parametrize(
    ("stage", "steps"), [("w", (5, 9)), ("F", (6,)), ("F", (2,)), ("F, no edits", (8,))]
)
def test_a_run_that_is_killed_at_any_step_resumes_to_the_same_losses(
    faces, tmp_path, quick_checkpoints, stage, steps
):
    """Log lines are of three steps, checkpoints after every fourth: neither falls on the kill."""
    config = STAGES[stage]
    whole = make_loop(faces, tmp_path / "whole", 80, config)
    whole.run()
    for step in steps:
        killed = make_loop(faces, tmp_path / "parts", 80, config)
        assert killed.resume() == (step > 4 and step != steps[0])
        kill_at(killed, step)
    resumed = make_loop(faces, tmp_path / "parts", 80, config)
    assert resumed.resume() == (steps[-1] > 4)
    assert resumed.images_seen == steps[-1] // 4 * 32
    assert not torch.equal(parameters(resumed), parameters(whole))
    resumed.run()
    assert torch.equal(parameters(resumed), parameters(whole))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_every_network_that_judges_is_named_at_the_head_of_the_log(faces, tmp_path, features):
    kill_at(make_loop(faces, tmp_path / "named", 8, F_FULL), 0)
    first = losses(tmp_path / "named")[0]
    assert first == {
        "networks": {
            "pixel": "L1 + SSIM at three scales",
            "perceptual": "EfficientNet-lite0",
            "identity": "dlib_face_recognition_resnet_v1",
            "adversary": "projected discriminator on EfficientNet-lite0, PatchGAN on pixels",
            "edit": "EfficientNet-lite0",
        },
        "start": "random weights",
    }


def test_a_run_is_not_resumed_with_other_judges(faces, tmp_path):
    loop = make_loop(faces, tmp_path / "judged", 8)
    loop.save()
    loop = make_loop(faces, tmp_path / "judged", 8)
    loop.task.networks = {**loop.task.networks, "perceptual": "LPIPS (alex)"}
    with pytest.raises(UsageError, match=r"LPIPS \(alex\)"):
        loop.resume()


def test_a_folder_without_checkpoint_is_not_resumed(faces, tmp_path):
    assert not make_loop(faces, tmp_path / "empty", 64).resume()


def test_training_learns_to_reconstruct(faces, tmp_path):
    loop = replace(LOOP, checkpoint_images=400, log_images=8)
    config = replace(PLAIN, learning_rate=0.006, encoder_learning_rate=0.003, loop=loop)
    loop = make_loop(faces, tmp_path / "learn", 800, config)
    loop.run()
    text = (tmp_path / "learn" / "log.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    pixel = [line["pixel"] for line in lines if "pixel" in line]
    assert np.mean(pixel[-10:]) < 0.8 * np.mean(pixel[:10])
    scores = [line["val"]["psnr"] for line in lines if "val" in line]
    assert scores[-1] > scores[0] + 1
    assert list((tmp_path / "learn").glob("sheet_*.png"))


def test_averaged_batch_norm_fits_the_averaged_weights(faces, tmp_path):
    """Statistics of the raw modules do not fit the averaged weights (it cost us 0.9 dB once)."""
    config = replace(PLAIN, loop=replace(LOOP, checkpoint_images=160))
    loop = make_loop(faces, tmp_path / "norm", 160, config)
    loop.run()
    encoder = loop.ema["encoder"]
    images = make_batch(faces, faces.train_indices[:256]).images
    with torch.no_grad():
        evaluated = encoder(images)[0]
        encoder.train()
        batch_statistics = encoder(images)[0]
    assert (evaluated - batch_statistics).abs().mean() < 0.1 * batch_statistics.std()


def test_adversary_learns_at_once_and_acts_from_its_image_on(faces):
    adversary = AdversaryConfig(start_images=16, projected=False)
    config = replace(W_CONFIG, judges=replace(PIXELS_ALONE, adversary=adversary))
    task = GanTask(config)
    before = [p.detach().clone() for p in task.judges.adversary.parameters()]
    batch = make_batch(faces, np.arange(8))
    early = [task.step(batch, number, lambda parameters: None) for number in (0, 1)]
    assert all("discriminator" in m and "adversarial" not in m for m in early)
    moved = zip(before, task.judges.adversary.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)
    metrics = task.step(batch, 2, lambda parameters: None)
    assert {"adversarial", "adversarial_weight"} <= set(metrics)
    assert all(torch.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("config", [W_FULL, F_FULL], ids=["w", "F"])
def test_all_judges_together_move_generator_and_encoder(faces, features, config):
    torch.manual_seed(0)
    task = FeatureStyleTask(config) if isinstance(config, EncoderConfig) else GanTask(config)
    metrics = task.step(make_batch(faces, np.arange(8)), 0, lambda parameters: None)
    names = {"pixel", "perceptual", "identity", "adversarial", "discriminator", "kl", "supervision"}
    if isinstance(config, EncoderConfig):
        names |= {"pixel_w", "perceptual_w", "edit", "edit_features", "edited_identity"}
        names |= {"feature"}
    assert set(metrics) == {*names, "adversarial_weight"}
    assert all(torch.isfinite(value) for value in metrics.values())
    for module in (task.generator.synthesis, task.encoder):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    measures, rows = task.evaluate(task.modules, make_batch(faces, np.arange(16)))
    assert {"psnr_w", "sharpness_w", "perceptual_w", "identity_w"} <= set(measures)
    assert all(row.shape == (16, 3, 32, 32) for row in rows)


def test_one_gradient_at_the_picture_is_that_of_the_loss():
    torch.manual_seed(0)
    weights = torch.randn(2, 3, 8, 8, requires_grad=True)
    pictures = [weights * 2, weights.square()]
    views = [leaf(picture) for picture in pictures]
    through(pictures, views, (views[0].images * views[1].images).mean()).backward()
    expected = torch.autograd.grad((2 * weights**3).mean(), weights)[0]
    torch.testing.assert_close(weights.grad, expected)


def test_edit_directions_converge_to_the_regression():
    torch.manual_seed(0)
    truth = torch.randn(3, 16)
    edits = EditDirections(3, 16)
    mixing = torch.tensor([[1.0, 0.6, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 1.0]])
    for _ in range(600):
        targets = torch.randn(64, 3) @ mixing
        edits.update(targets, targets @ truth + 0.1 * torch.randn(64, 16) + 5)
    drawn, _ = edits.draw(200, 2.5, torch.ones(3))
    found = torch.linalg.lstsq(truth.T, drawn.T).solution.T  # in units of the attributes
    strongest = found.abs().amax(dim=1)
    assert strongest.max() <= 2.5 * 1.2
    rest = found.abs().sum(dim=1) - strongest
    assert (rest < 0.25 * strongest + 0.05).float().mean() > 0.9


@pytest.mark.parametrize("apart", [False, True])
def test_what_g_of_w_and_f_shows_may_leave_w_alone(faces, apart):
    torch.manual_seed(0)
    task = FeatureStyleTask(replace(CONFIG, latents_apart=apart))
    torch.nn.init.normal_(task.encoder.feature_head.expand.weight)
    batch = make_batch(faces, np.arange(8))
    _, full = task._invert(batch.images, task.generator, task.encoder)
    full.square().mean().backward()
    assert (task.encoder.latent_head.weight.grad is None) == apart
    assert task.encoder.feature_head.expand.weight.grad is not None
    whole = task.step(batch, 0, lambda parameters: None)
    assert bool(whole["pixel_w"].isfinite())
    assert task.encoder.latent_head.weight.grad is not None


def test_a_stage_without_edits_knows_their_directions_for_the_next_one(faces):
    torch.manual_seed(0)
    task = FeatureStyleTask(PLAIN)
    task.step(make_batch(faces, np.arange(16)), 0, lambda parameters: None)
    assert bool(task.edits.cross_AD.any(dim=1).all())


def test_attributes_without_labels_are_not_edited_and_spoil_no_others():
    """As on windows of video, where edits were NaN once the attribute's moments had faded to 0."""
    torch.manual_seed(0)
    edits, truth = EditDirections(3, 8), torch.randn(3, 8)
    edits.moments_AA[1, 1] = 0
    for _ in range(600):
        targets = torch.randn(16, 3)
        w = targets @ truth
        targets[:, 1] = torch.nan
        edits.update(targets, w)
    directions = edits.directions()
    assert directions[1].abs().max() < 1e-6
    torch.testing.assert_close(directions[[0, 2]], truth[[0, 2]], atol=0.4, rtol=0)
    drawn, _ = edits.draw(200, 2.5, labelled(targets))
    assert (drawn.norm(dim=1) > 0).all()
    assert torch.isfinite(drawn).all()


def test_a_feature_style_step_on_video_is_finite(faces):
    """Where age, gender and smile are unknown to all faces; smiles are not measured there."""
    torch.manual_seed(0)
    task = FeatureStyleTask(CONFIG)
    batch = make_batch(faces, np.arange(16))
    batch.targets[:, [ATTRIBUTES.index(name) for name in ("smile", "age", "gender")]] = torch.nan
    task.edits.moments_AA.zero_()  # as those of unknown attributes are after many such steps
    metrics = task.step(batch, 0, lambda parameters: None)
    assert all(torch.isfinite(value) for value in metrics.values())
    measures, _ = task.evaluate(task.modules, batch)
    assert not any(name.startswith("kept") for name in measures)
    assert np.isfinite(list(measures.values())).all()


class TwoWorkers:
    """torch.distributed as one of two workers sees it; the other one has zeros."""

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def get_world_size() -> int:
        return 2

    @staticmethod
    def get_backend() -> str:
        return "gloo"

    @staticmethod
    def all_reduce(tensor: torch.Tensor, group=None) -> None:
        tensor += 0


def test_all_workers_have_the_same_edit_directions_and_balance(monkeypatch):
    """Or a resumed run, which has those of the first, would not repeat its steps."""
    alone, together = EditDirections(3, 4), EditDirections(3, 4)
    batch = torch.randn(8, 3), torch.randn(8, 4)
    alone.update(*batch)
    adversary = Adversary(AdversaryConfig(projected=False), 32)
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    losses = images.square().mean(), adversary.generator_loss(View(images))
    adversary.measure_balance(*losses, images)
    before = float(adversary.balance)
    monkeypatch.setattr(training.group, "dist", TwoWorkers)
    together.update(*batch)
    torch.testing.assert_close(together.cross_AD, alone.cross_AD / 2)
    adversary.forget_balance()
    adversary.measure_balance(*losses, images)
    assert float(adversary.balance) == pytest.approx(before / 2)


@pytest.mark.parametrize("feature_weight", [0.0, 0.125])
def test_edit_loss_is_what_features_take_from_an_edit(faces, request, feature_weight):
    """0 while G(w, F) = G(w); above 0 once F changes what an edit does."""
    if feature_weight:
        request.getfixturevalue("features")
    batch = make_batch(faces, np.arange(16))
    found = {}
    for std in (0.0, 3.0):
        torch.manual_seed(0)
        task = FeatureStyleTask(replace(CONFIG, edit_feature_weight=feature_weight))
        torch.nn.init.normal_(task.edits.cross_AD)
        torch.nn.init.normal_(task.encoder.feature_head.expand.weight, std=std)
        metrics = task.step(batch, 0, lambda parameters: None)
        found[std] = {k: float(v.detach()) for k, v in metrics.items() if k.startswith("edit")}
    assert len(found[0.0]) == 1 + bool(feature_weight)
    assert all(value < 1e-4 for value in found[0.0].values())
    assert all(value > 1e-3 for value in found[3.0].values())
    without = FeatureStyleTask(replace(CONFIG, edit_weight=0.0))
    assert "edit" not in without.step(batch, 0, lambda parameters: None)


def test_the_feature_editor_learns_from_edits_and_eq1_stays_in_use(faces):
    torch.manual_seed(0)
    task = FeatureStyleTask(CONFIG)
    torch.nn.init.normal_(task.edits.cross_AD)
    torch.nn.init.normal_(task.encoder.feature_head.expand.weight)
    task.step(make_batch(faces, np.arange(16)), 0, lambda parameters: None)
    editor = task.encoder.feature_editor
    assert editor.layers[-1].weight.grad.abs().sum() > 0
    torch.nn.init.normal_(editor.layers[-1].weight)
    images = make_batch(faces, np.arange(4)).images
    with torch.no_grad():
        inverted, _ = task._invert(images, task.generator, task.encoder)
        moved = inverted.latents_NLD + 1
        pictures = [
            task._edited(inverted, moved, task.generator, task.encoder, by_eq1=count)
            for count in (0, 1, 4)
        ]
    torch.testing.assert_close(pictures[1][:3], pictures[0][:3])
    torch.testing.assert_close(pictures[1][3:], pictures[2][3:])
    assert (pictures[0] - pictures[2]).abs().mean() > 1e-3


@pytest.mark.parametrize("task_type", [GanTask, FeatureStyleTask])
def test_a_generator_without_learning_rate_stands_still(faces, task_type):
    config = replace(W_CONFIG if task_type is GanTask else CONFIG, learning_rate=0.0)
    torch.manual_seed(0)
    task = task_type(config)
    before = {k: v.clone() for k, v in task.generator.state_dict().items()}
    weight = task.encoder.latent_head.weight.clone()
    batch = make_batch(faces, np.arange(16))
    for number in range(4):  # the adversary acts in the last ones
        task.step(batch, number, lambda parameters: None)
    assert all(torch.equal(v, before[k]) for k, v in task.generator.state_dict().items())
    assert not torch.equal(task.encoder.latent_head.weight, weight)
    latents = torch.zeros(2, GENERATOR.num_ws, GENERATOR.w_dim)
    assert torch.equal(task.noisy(latents), latents)
    learning = replace(config, learning_rate=1e-3)
    assert not torch.equal(task_type(learning).noisy(latents), latents)
    assert torch.equal(task_type(replace(learning, latent_noise=False)).noisy(latents), latents)


def test_what_is_said_of_w_is_said_from_the_packs_mean(faces):
    """A pack's latent space is shifted (training.mapping): KL, probe and rows stay the same."""
    torch.manual_seed(0)
    encoder = replace(ENCODER, feature_width=0, latent_space="w+")
    task = GanTask(replace(W_CONFIG, encoder=encoder))
    batch, w = make_batch(faces, np.arange(8)), torch.randn(8, GENERATOR.num_ws, GENERATOR.w_dim)
    before, after = {}, {}
    task._latent_losses(w, task.probe.log_sigma, batch, before)
    task.generator.mapping.w_avg.fill_(4.0)
    task._latent_losses(w + 4.0, task.probe.log_sigma, batch, after)
    assert before.keys() == {"kl", "supervision", "rows"}
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=0)


def test_the_editors_stage_moves_the_editor_alone(faces, tmp_path):
    torch.manual_seed(0)
    before = FeatureStyleTask(CONFIG)
    torch.nn.init.normal_(before.encoder.feature_head.expand.weight)
    modules = {name: module.state_dict() for name, module in before.modules.items()}
    write_weights(tmp_path / "none.safetensors", modules, 0)
    task = FeatureEditorTask(CONFIG)
    with pytest.raises(UsageError, match="no directions of edits"):
        task.initialise(tmp_path / "none.safetensors")
    torch.nn.init.normal_(before.edits.cross_AD)
    modules["edits"] = before.edits.state_dict()
    write_weights(tmp_path / "some.safetensors", modules, 0)
    task.initialise(tmp_path / "some.safetensors")
    start = {k: v.clone() for k, v in task.encoder.state_dict().items()}
    batch = make_batch(faces, np.arange(16))
    found = []
    for _ in range(12):
        torch.manual_seed(1)
        metrics = task.step(batch, 0, lambda parameters: None)
        found.append([float(metrics[name].detach()) for name in ("edit", "edit_probe")])
    assert found[-1][0] < 0.97 * found[0][0]
    assert found[-1][1] < 0.97 * found[0][1]
    moved = {k for k, v in task.encoder.state_dict().items() if not torch.equal(v, start[k])}
    assert moved == {f"feature_editor.{k}" for k in task.encoder.feature_editor.state_dict()}
    with pytest.raises(UsageError, match="editor_width"):
        FeatureEditorTask(replace(CONFIG, encoder=replace(ENCODER, editor_width=0)))


def test_recognition_sees_the_change_of_edits_that_change_whom_one_sees(faces):
    """And the source's own face in all others; without the weight it sees that in all."""
    torch.manual_seed(0)
    judges = replace(PIXELS_ALONE, identity_weight=0.1, identity_share=1)
    config = replace(CONFIG, judges=judges, edit_recognition_weight=1.0, edited_identity=1.0)
    task = FeatureEditorTask(config)
    source, before, after = (View(torch.rand(2, 3, 32, 32) * 2 - 1) for _ in range(3))
    same = EditChange(before, before)
    smile, age = (torch.full([2], ATTRIBUTES.index(name)) for name in ("smile", "age"))

    def loss(change, wanted, attributes, task=task):
        return float(task._person_loss(change, wanted, source, attributes, {}))

    change = EditChange(before, after)
    assert loss(change, change, age) == pytest.approx(0, abs=1e-6)
    assert loss(same, change, age) == pytest.approx(loss(change, same, age), rel=1e-3)
    assert loss(change, same, age) > 0.01
    distance = float(task.judges.identity.distance(after, source).mean())
    assert loss(change, change, smile) == pytest.approx(distance, rel=1e-4)
    plain = FeatureEditorTask(replace(config, edit_recognition_weight=0.0))
    assert loss(change, change, age, plain) == pytest.approx(distance, rel=1e-4)


def test_an_edit_counts_most_at_eyes_and_mouth():
    weight = torch.ones(2, 1, 32, 32)
    weight[..., :8, :8] = 2.75
    for side in (64, 32, 8):
        found = edit_weights(weight, side)
        assert found.shape == (2, 1, side, side)
        assert float(found.mean()) == pytest.approx(1)
        assert float(found[0, 0, 0, 0] / found[0, 0, -1, -1]) == pytest.approx(2.75**2)


def test_a_stage_takes_over_the_one_before_and_grows(faces, tmp_path):
    loop = make_loop(faces, tmp_path / "low", 64)
    loop.run()
    taller = replace(GENERATOR, resolution=64)
    task = FeatureStyleTask(replace(CONFIG, generator=taller, train_resolution=64))
    task.initialise(tmp_path / "low")
    task.grow_from(32)
    latents = torch.randn(2, taller.num_ws, 16)
    low = task.generator.synthesis.run(
        latents, stop=taller.layer_after(32), noise_mode="none"
    ).image_N3HW
    expected = loop.ema["generator"].synthesis(latents[:, :8], noise_mode="none")
    torch.testing.assert_close(low, expected)
    grown = task.generator.synthesis(latents, noise_mode="none")
    enlarged = torch.nn.functional.interpolate(low, scale_factor=2, mode="bilinear")
    assert (grown - enlarged).abs().mean() < 0.1 * low.std()


def test_a_run_goes_on_from_weights_under_their_older_names(faces, tmp_path):
    """``look`` and ``compare`` are what checkpoints called the parts of the feature head."""
    loop = make_loop(faces, tmp_path / "older", 64)
    loop.save()
    path = tmp_path / "older" / "latest.pt"
    state = torch.load(path, weights_only=True)
    for group in ("modules", "ema"):
        state[group]["encoder"] = {
            key.replace(".project.", ".look.").replace(".fuse.", ".compare."): value
            for key, value in state[group]["encoder"].items()
        }
        assert any(".look." in key for key in state[group]["encoder"])
    torch.save(state, path)
    resumed = make_loop(faces, tmp_path / "older", 64)
    with torch.no_grad():
        for parameter in resumed.task.encoder.parameters():
            parameter.zero_()
    assert resumed.resume()
    assert torch.equal(parameters(resumed), parameters(loop))


def test_learning_rate_rises_holds_and_decays():
    config = LoopConfig(total_images=1000, warmup_images=100, decay_images=200)
    factors = [learning_rate_factor(images, config) for images in (0, 49, 100, 799, 900, 1000)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[1] == pytest.approx(0.5)
    assert factors[2:4] == [1.0, 1.0]
    assert factors[4] == pytest.approx(0.525)
    assert factors[5] == pytest.approx(0.05)


def test_mirroring_moves_pixels_landmarks_and_yaw_together(faces):
    plain = make_batch(faces, np.arange(2))
    mirrored = make_batch(faces, np.arange(2), np.array([True, False]))
    assert torch.equal(mirrored.images[0], plain.images[0].flip(-1))
    assert torch.equal(mirrored.images[1], plain.images[1])
    yaw = ATTRIBUTES.index("yaw")
    assert mirrored.targets[0, yaw] == -plain.targets[0, yaw]
    assert sorted(FLIP_68) == list(range(68))
    assert float(mirrored.landmarks[0, 36, 0]) == pytest.approx(
        -float(plain.landmarks[0, 45, 0]), abs=0.02
    )


def test_targets_are_standardised_and_unknown_is_nan():
    rows = [
        {"smile_score": str(i), "age": age, "gender": gender}
        for i, (age, gender) in enumerate([("20-29", "Male"), ("", ""), ("40-49", "Female")])
    ]
    landmarks = np.random.default_rng(0).uniform(0, 127, (3, 68, 2))
    table = attribute_targets(rows, landmarks)
    assert np.isnan(table[1, ATTRIBUTES.index("age")])
    assert table[2, ATTRIBUTES.index("age")] > table[0, ATTRIBUTES.index("age")]
    assert table[0, ATTRIBUTES.index("gender")] > 0
    np.testing.assert_allclose(table[:, ATTRIBUTES.index("smile")].std(), 1, rtol=1e-5)


@pytest.fixture(scope="module")
def correlated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w made of two correlated attributes along known directions, plus noise."""
    rng = np.random.default_rng(1)
    targets = rng.standard_normal((4000, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    truth = rng.standard_normal((2, 12))
    return targets @ truth + 0.3 * rng.standard_normal((4000, 12)), targets, truth


def test_conditional_directions_find_the_truth_in_spite_of_correlation(correlated):
    w, targets, truth = correlated
    np.testing.assert_allclose(
        conditional_directions(w, targets, np.empty((len(w), 0))), truth, atol=0.05
    )


def test_conditions_are_held_fixed(correlated):
    """Light that goes with an attribute must not come along with its direction."""
    w, targets, truth = correlated
    rng = np.random.default_rng(2)
    light = targets @ np.array([[0.8], [0.3]]) + 0.5 * rng.standard_normal((len(targets), 1))
    lit = w + light @ rng.standard_normal((1, 12))
    np.testing.assert_allclose(conditional_directions(lit, targets, light), truth, atol=0.05)
    ignored = conditional_directions(lit, targets, np.empty((len(lit), 0)))
    assert np.abs(ignored - truth).max() > 0.3


def test_photographic_conditions_see_brightness_and_are_standardised(faces):
    weights = np.full((640, 32, 32), 64, np.uint8)
    weights[:, 8:24, 8:24] = 150  # the face
    light = photographic_conditions(replace(faces, weights_M=weights), np.arange(200))
    np.testing.assert_allclose(light.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(light.std(axis=0), 1, atol=1e-3)
    brightness = faces.images_M3RR[:200].mean(axis=(1, 2, 3))
    best = max(abs(np.corrcoef(column, brightness)[0, 1]) for column in light.T)
    assert best > 0.5


def test_unknown_targets_do_not_lose_faces(correlated):
    w, targets, truth = correlated
    targets = targets.copy()
    targets[::3, 1] = np.nan
    np.testing.assert_allclose(
        conditional_directions(w, targets, np.empty((len(w), 0))), truth, atol=0.1
    )


def test_gaussian_mapping_draws_from_the_cloud_and_changes_no_picture():
    torch.manual_seed(0)
    generator, encoder = (
        StyleGAN2Generator(GENERATOR).eval(),
        FeatureStyleEncoder(ENCODER, GENERATOR).eval(),
    )
    mixing = torch.randn(16, 16) * torch.linspace(0.2, 1, 16)
    cloud = torch.randn(4000, 16) @ mixing + torch.linspace(-2, 2, 16)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    inverter = FeatureStyleInverter(generator, encoder)
    before = inverter.render(inversion := inverter.encode(images), inversion.unedited)
    shift = -encoder.w_offset
    set_gaussian_mapping(generator, encoder, cloud)
    shift = shift + encoder.w_offset
    after = inverter.render(inversion := inverter.encode(images), inversion.unedited)
    torch.testing.assert_close(after, before, rtol=0, atol=0.02 * float(before.std()))
    with torch.no_grad():
        drawn = generator.mapping(torch.randn(4000, 16)) - shift
    torch.testing.assert_close(drawn.mean(0), cloud.mean(0), rtol=0, atol=0.3)
    relative = torch.cov(drawn.T) - torch.cov(cloud.T)
    assert relative.norm() < 0.2 * torch.cov(cloud.T).norm()


def test_gaussian_mapping_needs_equal_widths():
    config = replace(GENERATOR, z_dim=8)
    with pytest.raises(ValueError, match="z_dim = w_dim"):
        set_gaussian_mapping(
            StyleGAN2Generator(config), FeatureStyleEncoder(ENCODER, config), torch.randn(40, 16)
        )
