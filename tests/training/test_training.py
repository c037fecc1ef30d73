"""The loop resumes exactly, tasks learn, configuration faults are named; on made-up faces."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from training.build_pack import smile_tensors
from training.data import ATTRIBUTES, FaceArrays, attribute_targets
from training.feature_style import EditDirections, EncoderConfig, FeatureStyleTask
from training.fit_directions import conditional_directions, photographic_conditions
from training.gan import GanConfig, GanTask
from training.loop import FLIP_68, Loop, LoopConfig, learning_rate_factor, make_batch
from training.mapping import set_gaussian_mapping
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
)
LOOP = LoopConfig(
    total_images=64, batch=8, workers=1, warmup_images=8, decay_images=16, log_images=8,
    checkpoint_images=32,
)  # fmt: skip
CONFIG = EncoderConfig(generator=GENERATOR, encoder=ENCODER, loop=LOOP, train_resolution=32)


@pytest.fixture(scope="module")
def faces() -> FaceArrays:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (640, 3, 4, 4), dtype=np.uint8)
    return FaceArrays(
        images_M3RR=coarse.repeat(8, axis=2).repeat(8, axis=3),
        weights_M=np.full((640, 32, 32), 64, np.uint8),
        targets_MA=rng.standard_normal((640, len(ATTRIBUTES))).astype(np.float32),
        landmarks_M=rng.uniform(0, 127, (640, 68, 2)).astype(np.float32),
        is_train_M=np.arange(640) < 560,
    )


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


def parameters(loop: Loop) -> torch.Tensor:
    modules = [*loop.task.modules.values(), *loop.ema.values()]
    return torch.cat([p.detach().flatten() for m in modules for p in m.parameters()])


def make_loop(faces, folder, total: int, *, adversarial: float = 0.0) -> Loop:
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    config = replace(CONFIG, adversarial_weight=adversarial)
    return Loop(FeatureStyleTask(config), faces, replace(LOOP, total_images=total), folder)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("adversarial", [0.0, 0.1])
def test_resumed_run_equals_an_uninterrupted_one(faces, tmp_path, adversarial):
    whole = make_loop(faces, tmp_path / "whole", 64, adversarial=adversarial)
    whole.run()
    stopped = make_loop(faces, tmp_path / "parts", 64, adversarial=adversarial)

    def save_and_stop() -> None:
        Loop.save(stopped)
        raise Interrupted

    stopped.save = save_and_stop
    with pytest.raises(Interrupted):
        stopped.run()
    resumed = make_loop(faces, tmp_path / "parts", 64, adversarial=adversarial)
    assert resumed.resume()
    assert resumed.images_seen == 32
    assert not torch.equal(parameters(resumed), parameters(whole))
    resumed.run()
    assert torch.equal(parameters(resumed), parameters(whole))


def test_a_folder_without_checkpoint_is_not_resumed(faces, tmp_path):
    assert not make_loop(faces, tmp_path / "empty", 64).resume()


def test_training_learns_to_reconstruct(faces, tmp_path):
    loop = make_loop(faces, tmp_path / "learn", 800)
    loop.run()
    text = (tmp_path / "learn" / "log.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    losses = [line["reconstruction"] for line in lines if "reconstruction" in line]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    scores = [line["val"]["psnr"] for line in lines if "val" in line]
    assert scores[-1] > scores[0] + 1
    assert list((tmp_path / "learn").glob("sheet_*.png"))


def test_averaged_batch_norm_fits_the_averaged_weights(faces, tmp_path):
    """Statistics of the raw modules do not fit the averaged weights (it cost us 0.9 dB once)."""
    loop = make_loop(faces, tmp_path / "norm", 160)
    loop.run()
    encoder = loop.ema["encoder"]
    images = make_batch(faces, faces.train_indices[:256]).images
    with torch.no_grad():
        evaluated = encoder(images)[0]
        encoder.train()
        batch_statistics = encoder(images)[0]
    assert (evaluated - batch_statistics).abs().mean() < 0.1 * batch_statistics.std()


def test_adversary_joins_and_moves_the_generator(faces, tmp_path):
    config = GanConfig(
        generator=GENERATOR,
        encoder=replace(ENCODER, feature_width=0),
        loop=LOOP,
        train_resolution=32,
        adversarial_weight=0.1,
    )
    task = GanTask(config)
    before = [p.detach().clone() for p in task.discriminator.parameters()]
    metrics = task.step(make_batch(faces, np.arange(8)), 0, lambda parameters: None)
    assert {"adversarial", "feature_matching", "discriminator", "real_logit"} <= set(metrics)
    assert all(torch.isfinite(value) for value in metrics.values())
    moved = zip(before, task.discriminator.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in moved if b.grad is not None)


def test_edit_directions_converge_to_the_regression():
    torch.manual_seed(0)
    truth = torch.randn(3, 16)
    edits = EditDirections(3, 16)
    mixing = torch.tensor([[1.0, 0.6, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 1.0]])
    for _ in range(600):
        targets = torch.randn(64, 3) @ mixing
        edits.update(targets, targets @ truth + 0.1 * torch.randn(64, 16) + 5)
    drawn = edits.draw(200)
    found = torch.linalg.lstsq(truth.T, drawn.T).solution.T  # in units of the attributes
    strongest = found.abs().amax(dim=1)
    assert strongest.max() <= 2.5 * 1.2
    rest = found.abs().sum(dim=1) - strongest
    assert (rest < 0.25 * strongest + 0.05).float().mean() > 0.9


def test_edit_loss_is_what_features_take_from_an_edit(faces):
    """0 while G(w, F) = G(w); above 0 once F changes what an edit does."""
    torch.manual_seed(0)
    batch = make_batch(faces, np.arange(16))
    losses = {}
    for std in (0.0, 3.0):
        task = FeatureStyleTask(replace(CONFIG, edit_weight=1.0))
        torch.nn.init.normal_(task.edits.cross_AD)
        torch.nn.init.normal_(task.encoder.feature_head.expand.weight, std=std)
        losses[std] = float(task.step(batch, 0, lambda parameters: None)["edit"].detach())
    assert losses[0.0] < 1e-6
    assert losses[3.0] > 1e-3
    assert "edit" not in FeatureStyleTask(CONFIG).step(batch, 0, lambda parameters: None)


def test_a_stage_takes_over_the_one_before_and_grows(faces, tmp_path):
    loop = make_loop(faces, tmp_path / "low", 64)
    loop.run()
    taller = replace(GENERATOR, resolution=64)
    task = FeatureStyleTask(replace(CONFIG, generator=taller, train_resolution=64))
    task.initialise(tmp_path / "low" / "latest.pt")
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
    task = FeatureStyleTask(CONFIG)
    task.initialise(path)
    for key, value in loop.ema["encoder"].state_dict().items():
        assert torch.equal(task.encoder.state_dict()[key], value)


def test_a_stage_of_other_sizes_is_refused(faces, tmp_path):
    loop = make_loop(faces, tmp_path / "other", 64)
    loop.save()
    task = FeatureStyleTask(replace(CONFIG, encoder=replace(ENCODER, blocks=(2, 1, 1, 1))))
    with pytest.raises(ValueError, match="encoder does not fit"):
        task.initialise(tmp_path / "other" / "latest.pt")


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
    light, appearance = photographic_conditions(replace(faces, weights_M=weights), np.arange(200))
    for table in (light, appearance):
        np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(table.std(axis=0), 1, atol=1e-3)
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
