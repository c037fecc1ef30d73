"""Adaptive-block encoders: tables 9 and 10, what is minimised, tuning to a track, generators."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vidinv
from pipelines.demo import make_clip
from tests.packs.tiny import write_tiny_pack
from tests.video.clips import images_of
from vidinv.errors import MissingDependencyError, PackError, UsageError
from vidinv.generators.base import SynthesisState
from vidinv.generators.biggan import BigGANConfig, BigGANGenerator
from vidinv.generators.pggan import PGGANConfig
from vidinv.generators.registry import build_generator
from vidinv.generators.stylegan1 import StyleGAN1Config
from vidinv.generators.stylegan2 import StyleGAN2Config
from vidinv.generators.stylegan3 import StyleGAN3Config
from vidinv.inversion.adaptive import AdaptiveConfig, AdaptiveInverter
from vidinv.inversion.adaptive_loss import ImageLoss, latent_loss, vector_difference
from vidinv.inversion.adaptive_networks import (
    CONSTANT,
    AdaptiveBlock,
    AdaptiveEncoder,
    EncoderSizes,
)
from vidinv.inversion.attention import build_attention, crops, grad_cam_views, heat_map
from vidinv.inversion.state import TrackState
from vidinv.metrics import psnr_batch, ssim_batch
from vidinv.metrics.structure import pixel_structure_distance
from vidinv.networks.vgg16 import FILE, VGG16, cached_vgg16
from vidinv.packs import Pack, load_pack, write_pack
from vidinv.types import EditedLatents
from vidinv.video import read_image, write_image

GENERATORS = {
    "stylegan1": StyleGAN1Config(32, 256, 8, z_dim=8, w_dim=8, num_mapping_layers=2),
    "stylegan2": StyleGAN2Config(32, 256, 8, z_dim=8, w_dim=8, num_mapping_layers=2),
    "pggan": PGGANConfig(32, 256, 8, z_dim=8),
    "biggan": BigGANConfig(width=4, multiples=(4, 4, 2, 1), z_dim=6, class_dim=4, num_classes=5),
}
STYLED = "stylegan1", "stylegan2"
CONFIG = AdaptiveConfig(4, 8, frames=2, steps=4, perceptual="structure")
LOSS = ImageLoss(pixel_structure_distance, crops)


def make_encoder(kind: str) -> AdaptiveEncoder:
    torch.manual_seed(3)
    return AdaptiveEncoder(CONFIG.sizes, GENERATORS[kind]).eval().requires_grad_(False)


def make_inverter(kind: str = "stylegan2", **changes) -> AdaptiveInverter:
    encoder = make_encoder(kind)
    if kind in STYLED:
        nn.init.normal_(encoder.constant_gain, std=0.3)  # it starts at 0
    torch.manual_seed(4)
    generator = build_generator(GENERATORS[kind]).eval().requires_grad_(False)
    seconds = changes.pop("seconds", None)
    clock = {} if seconds is None else {"seconds": seconds}
    config = dataclasses.replace(CONFIG, **changes)
    return AdaptiveInverter(generator, encoder, config, loss=LOSS, **clock)


def faces(count: int = 2, *, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# Channels into every block, from tables 9 and 10; the last number leaves the last one.
TABLES = {
    ("stylegan2", 256): [64, 128, 256, 512, 512, 512, 512, 512],
    ("stylegan2", 512): [32, 64, 128, 256, 512, 512, 512, 512, 512],
    ("stylegan1", 1024): [16, 32, 64, 128, 256, 512, 512, 512, 512, 512],
    ("pggan", 1024): [16, 32, 64, 128, 256, 512, 512, 512, 512, 512],
    ("biggan", 128): [128, 256, 512, 512, 512, 512, 512],
}


@pytest.mark.parametrize(("kind", "resolution"), TABLES)
def test_blocks_are_those_of_the_tables(kind, resolution):
    config = {
        "stylegan1": StyleGAN1Config,
        "stylegan2": StyleGAN2Config,
        "pggan": PGGANConfig,
    }.get(kind, lambda _: BigGANConfig(multiples=(16, 16, 8, 4, 2, 1)))(resolution)
    widths = TABLES[kind, resolution]
    with torch.device("meta"):
        encoder = AdaptiveEncoder(EncoderSizes(widths[0]), config)
    assert len(encoder.blocks) == len(widths) - 1
    for block, into, out in zip(encoder.blocks, widths, widths[1:], strict=False):
        assert isinstance(block, AdaptiveBlock)
        is_last = block is encoder.blocks[-1]
        first = block.first.conv.weight.shape
        assert tuple(first) == ((out if is_last else into), into, 3, 3)
        assert (block.second is None) == is_last
        if block.second is not None:
            assert tuple(block.second.conv.weight.shape) == (out, into, 3, 3)
        assert len(block.style_layers()) == (2 if kind in STYLED else 0)
    if kind in STYLED:
        assert tuple(encoder.blocks[-1].last_style.weight.shape) == (512, 1024)  # FC(1024, 512)
    if kind == "biggan":  # FC(512 x 4 x 4, 256), FC(256, 128)
        assert tuple(encoder.to_latents.weight.shape) == (256, 512 * 16)
        assert tuple(encoder.to_z.weight.shape) == (128, 256)


@pytest.mark.parametrize("kind", GENERATORS)
def test_it_gives_its_generators_latents_and_pictures(kind):
    inverter, config = make_inverter(kind), GENERATORS[kind]
    state = inverter.fit(faces())
    inversion = inverter.encode(faces(3), state)
    assert inversion.latents_NLD.shape == (3, config.num_ws, config.w_dim)
    picture = inverter.render(inversion, inversion.unedited, state)
    assert picture.shape == (3, 3, 32, 32)
    codes = {name: code.shape for name, code in inversion.codes.items()}
    assert codes == ({CONSTANT: (3, 8, 4, 4)} if kind in STYLED else {})
    assert inverter.codes.keys() == codes.keys()
    other = inverter.encode(faces(3, seed=9), state)
    assert not torch.allclose(inversion.latents_NLD, other.latents_NLD)


@pytest.mark.parametrize("kind", STYLED)
def test_the_generator_starts_from_the_constant_that_it_is_given(kind):
    generator = build_generator(GENERATORS[kind]).requires_grad_(False)
    synthesis, latents = generator.synthesis, torch.randn(2, generator.num_ws, 8)
    constant = synthesis.constant_1CHW
    assert constant is not None
    own = synthesis(latents)

    def started(features: Tensor) -> Tensor:
        return synthesis(latents, start=SynthesisState(0, features, None))

    assert torch.equal(started(constant.expand(2, -1, -1, -1)), own)
    moved = started(constant.expand(2, -1, -1, -1) + torch.randn(2, 8, 4, 4))
    assert (moved - own).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_before_training_every_picture_has_the_latents_it_starts_at_and_the_own_constant():
    encoder = make_encoder("stylegan2")
    for block in encoder.blocks:
        for layer in block.style_layers():
            nn.init.zeros_(layer.weight)
    rows = torch.arange(8.0)[:, None] + torch.arange(8.0) / 10
    encoder.start_at(rows)
    latents, codes = encoder(faces())
    assert torch.equal(latents, rows.expand(2, -1, -1))
    assert not codes[CONSTANT].any()


def test_the_deepest_block_gives_the_first_rows():
    """A change of the coarsest features moves rows 0 and 1 alone."""
    encoder = make_encoder("stylegan2")
    before, _ = encoder(faces())
    nn.init.zeros_(encoder.blocks[-1].first.style.bias).add_(5.0)
    after, _ = encoder(faces())
    moved = (after - before).abs().amax(dim=(0, 2))
    assert moved[1] == pytest.approx(5.0, abs=1e-4)
    assert not moved[[0, *range(2, 8)]].any()


def test_noise_is_fixed_except_in_training():
    encoder = make_encoder("stylegan2")
    for block in encoder.blocks:
        nn.init.ones_(block.first.noise.strength)
    assert torch.equal(encoder(faces())[0], encoder(faces())[0])
    encoder.train()
    assert not torch.equal(encoder(faces())[0], encoder(faces())[0])


def test_pggans_latents_have_the_length_that_the_generator_reads():
    latents = make_inverter("pggan", steps=0).encode(faces()).latents_NLD
    torch.testing.assert_close(latents.square().mean(2), torch.ones(2, 1), rtol=1e-4, atol=1e-4)


def test_biggans_class_is_the_one_that_is_named_or_the_mean_of_all():
    found = [
        make_inverter("biggan", steps=0, class_index=i).encode(faces()).latents_NLD
        for i in (-1, 2, 3)
    ]
    # The scales by class start at 0: nothing depends on it yet.
    assert torch.equal(found[0], found[1])
    inverter = make_inverter("biggan", steps=0, class_index=2)
    assert isinstance(inverter.generator, BigGANGenerator)
    for block in inverter.encoder.blocks:
        nn.init.ones_(block.first.norm.scale.weight)
    table = inverter.generator.mapping.embeddings.weight.T
    expected = inverter.encoder(faces(), class_ND=table[2:3])[0]
    torch.testing.assert_close(inverter.encode(faces()).latents_NLD, expected)
    assert not torch.allclose(expected, found[1])
    with pytest.raises(ValueError, match=r"class_index must be -1\.\.4, got 5"):
        make_inverter("biggan", class_index=5)


def test_equation_4_by_hand():
    x, y = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[4.0, 3.0]]])
    expected = 5 * 1.0 + 3 * (1 - 24 / 25)
    assert float(vector_difference(x, y)) == pytest.approx(expected)
    both = latent_loss(x, y, {CONSTANT: x}, {CONSTANT: y})
    assert float(both) == pytest.approx(2 * expected)


def test_equations_2_and_3_by_hand():
    x, y = faces(2), faces(2, seed=1)

    def one(a: Tensor, b: Tensor) -> Tensor:
        cosine = F.cosine_similarity(a.flatten(1), b.flatten(1))
        return (
            5 * (a - b).square().mean((1, 2, 3))
            + 3 * (1 - cosine)
            + 2 * pixel_structure_distance(a, b)
            + (1 - ssim_batch(a, b))
        )

    def resized(a: Tensor) -> Tensor:
        return F.interpolate(a, (32, 32), mode="bilinear", align_corners=False)

    views = [(resized(a[..., 4:28]), resized(a[..., 5:27, 5:27])) for a in (x, y)]
    expected = one(x, y) + 0.375 * one(views[0][0], views[1][0])
    expected = expected + 0.625 * one(views[0][1], views[1][1])
    torch.testing.assert_close(LOSS(x, y), expected)
    plain = ImageLoss(pixel_structure_distance, build_attention("none", torch.device("cpu")))
    torch.testing.assert_close(plain(x, y), one(x, y))
    without = dataclasses.replace(plain, structure=False)  # table 7
    torch.testing.assert_close(without(x, y), one(x, y) - (1 - ssim_batch(x, y)))


def test_crops_of_1024_px_are_the_papers():
    columns = torch.arange(1024.0).expand(1, 3, 1024, 1024)
    (wide, _), (tight, _) = crops(columns, columns)
    for picture, first, last in ((wide, 128, 895), (tight, 160, 863)):
        assert float(picture.min()) == pytest.approx(first, abs=0.5)
        assert float(picture.max()) == pytest.approx(last, abs=0.5)
    rows = columns.transpose(2, 3)
    (wide, _), (tight, _) = crops(rows, rows)
    assert (float(wide.min()), float(wide.max())) == (0, 1023)
    assert float(tight.min()) == pytest.approx(160, abs=0.5)


class BrightSpots:
    """Its class is brightness: where it is, Grad-CAM finds it."""

    def maps(self, images_N3HW: Tensor) -> Tensor:
        return F.avg_pool2d(F.relu(images_N3HW), 4)

    def scores(self, maps_NCHW: Tensor) -> Tensor:
        return torch.stack([maps_NCHW.sum((1, 2, 3)), -maps_NCHW.sum((1, 2, 3))], dim=1)


def test_grad_cam_looks_at_what_decides_the_class():
    source = torch.full((2, 3, 32, 32), -1.0)
    source[0, :, 4:12, 16:28], source[1, :, 20:28, 4:8] = 1.0, 1.0
    heat = heat_map(BrightSpots(), source)
    assert heat.shape == (2, 1, 32, 32)
    assert heat[0, 0, 8, 22] == 1
    assert heat[0, 0, 24, 6] == 0
    picture = source.clone().requires_grad_()
    (weighed, same), (box, _) = grad_cam_views(BrightSpots(), source, picture)
    assert torch.equal(weighed, source * heat)
    assert torch.equal(same, picture * heat)
    assert (box[0] > -1).float().mean() > 0.8  # the spot fills its box
    assert (box[1] > -1).float().mean() > 0.8
    (gradient,) = torch.autograd.grad(same.sum(), picture)
    assert torch.equal(gradient, heat.expand(-1, 3, -1, -1))


def test_vgg16_has_torchvisions_names_and_comes_from_the_cache(tmp_path):
    with torch.device("meta"):
        published = {name: tuple(v.shape) for name, v in VGG16().state_dict().items()}
    assert published["features.28.weight"] == (512, 512, 3, 3)
    assert published["classifier.0.weight"] == (4096, 25088)
    assert published["classifier.6.weight"] == (1000, 4096)
    assert len(published) == 32
    small = VGG16((2, 2, 2, 2, 2), hidden=4, classes=3)
    with pytest.raises(MissingDependencyError, match="Grad-CAM needs VGG16's weights"):
        cached_vgg16(tmp_path)
    torch.save(small.state_dict(), tmp_path / FILE)
    read = cached_vgg16(tmp_path, VGG16((2, 2, 2, 2, 2), hidden=4, classes=3))
    maps = read.maps(faces())
    assert maps.shape == (2, 2, 14, 14)
    assert torch.equal(read.scores(maps), small.eval().scores(small.maps(faces())))


def test_tuning_brings_the_pictures_nearer_and_more_steps_more():
    x, found = faces(), []
    for steps in (1, 20, 60):
        inverter = make_inverter(steps=steps, learning_rate=5e-3)
        state = inverter.fit(x)
        inversion = inverter.encode(x, state)
        found.append(psnr_batch(inverter.render(inversion, inversion.unedited, state), x).mean())
    assert found[0] < found[1] < found[2]
    assert found[2] > found[0] + 1


def test_a_step_goes_against_the_gradient_of_equation_6():
    """Adam without a mean of gradients: its first step is as long as its rate."""
    x, rate = faces(1), 1e-3
    inverter = make_inverter(steps=1, learning_rate=rate)
    state = inverter.fit(x)
    encoder = copy.deepcopy(inverter.encoder).requires_grad_()
    constant = inverter.generator.synthesis.constant_1CHW

    def picture_of(latents: Tensor, codes: dict[str, Tensor]) -> Tensor:
        start = SynthesisState(0, constant + codes[CONSTANT], None)
        return inverter.generator.synthesis(latents, start=start)

    latents, codes = encoder(x)
    picture = picture_of(latents, codes)
    again, again_codes = encoder(picture)
    loss = LOSS(picture, x) + 0.01 * (
        vector_difference(latents, again)
        + vector_difference(constant + codes[CONSTANT], constant + again_codes[CONSTANT])
    )
    loss.sum().backward()
    checked = 0
    for name, weight in encoder.named_parameters():
        change, clear = state.tensors[name] - weight.detach(), weight.grad.abs() > 1e-4
        checked += int(clear.sum())
        torch.testing.assert_close(
            change[clear], -rate * weight.grad.sign()[clear], rtol=1e-2, atol=1e-6
        )
    assert checked > 500


def test_frames_take_turns_progress_is_told_and_tuning_ends_in_time():
    shares: list[float] = []
    state = make_inverter(steps=6).fit(faces(2), progress=shares.append)
    assert state.facts == {"frames": 2, "steps": 6}
    assert shares == pytest.approx([step / 6 for step in range(1, 7)])
    clock = iter(range(100))
    late = make_inverter(steps=50, max_seconds=3.0, seconds=lambda: float(next(clock)))
    state = late.fit(faces(1))
    assert state.facts["steps"] == 3
    (note,) = state.notes
    assert "ended after 3 s, at step 3 of 50" in note


@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad])
def test_nothing_of_the_pack_is_changed_and_any_grad_mode_does(around):
    expected = make_inverter().fit(faces())
    inverter = make_inverter()
    networks = inverter.generator, inverter.encoder
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    with around():
        state = inverter.fit(faces() * 1.0)
        inverter.render(inverter.encode(faces(), state), EditedLatents(torch.zeros(2, 8, 8)), state)
    assert state.digest == expected.digest
    for network, values in zip(networks, before, strict=True):
        assert all(torch.equal(v, values[key]) for key, v in network.state_dict().items())
        assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


def test_each_track_has_its_own_encoder_and_an_edit_keeps_the_constant(tmp_path):
    inverter = make_inverter(learning_rate=5e-3)
    states = [inverter.fit(faces(2, seed=seed)) for seed in (1, 2)]
    found = [inverter.encode(faces(), state) for state in states]
    assert not torch.allclose(found[0].latents_NLD, found[1].latents_NLD)
    states[0].save(tmp_path)
    read = TrackState.load(tmp_path, states[0].digest)
    again = make_inverter().encode(faces(), read)
    assert torch.equal(again.latents_NLD, found[0].latents_NLD)

    edited = EditedLatents(found[0].latents_NLD + 0.5)
    start = SynthesisState(0, found[0].codes[CONSTANT], None)
    expected = inverter.generator.synthesis(edited.latents_NLD, start=start)
    actual = inverter.render(found[0], edited, states[0])
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_the_constant_may_be_left_to_the_generator():
    inverter = make_inverter(feeds_constant=False, steps=0)
    inversion = inverter.encode(faces())
    assert not inversion.codes
    assert not inverter.codes
    expected = inverter.generator.synthesis(inversion.latents_NLD)
    torch.testing.assert_close(inverter.render(inversion, inversion.unedited), expected)


def test_without_steps_the_encoder_serves_as_it_is_and_needs_no_state():
    inverter = make_inverter(steps=0)
    assert inverter.sample_frames == 0
    latents, _ = inverter.encoder(faces())
    torch.testing.assert_close(inverter.encode(faces()).latents_NLD, latents)
    with pytest.raises(UsageError, match="adaptive needs the state"):
        make_inverter().encode(faces())


def test_only_mirrored_generators_are_served():
    config = StyleGAN3Config(resolution=32, z_dim=8, w_dim=8, num_mapping_layers=2)
    with pytest.raises(ValueError, match="no encoder for generators of kind stylegan3: stylegan1"):
        AdaptiveEncoder(CONFIG.sizes, config)


def test_an_encoder_that_is_not_tuned_needs_nothing_to_judge_by(pack, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # no weights of VGG16 there
    with pytest.raises(MissingDependencyError, match="Grad-CAM needs VGG16's weights"):
        pack.with_options("adaptive", {"attention": "grad-cam"}).inverter("adaptive")
    options = {"attention": "grad-cam", "steps": 0}
    assert pack.with_options("adaptive", options).inverter("adaptive").sample_frames == 0


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Pack:
    encoder = make_encoder("stylegan2")
    entry = {"file": "adaptive.safetensors", "config": dataclasses.asdict(CONFIG)}
    added = {"adaptive": (entry, encoder.state_dict())}
    return load_pack(write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny", added=added))


def test_an_option_leaves_ssim_out(pack):
    assert pack.inverter("adaptive").loss.structure
    without = pack.with_options("adaptive", {"structure": "false"})
    assert not without.inverter("adaptive").loss.structure


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"steps": -1}, {"attention": "all"}])
def test_a_configuration_that_makes_no_sense_is_refused(pack, wrong):
    with pytest.raises(PackError, match="AdaptiveConfig"):
        pack.with_options("adaptive", wrong).inverter("adaptive")


def test_a_clip_is_tuned_to_once_and_the_weights_serve_again(pack, tmp_path):
    clip = make_clip(load_pack(), tmp_path / "face.mp4", seconds=0.4, size_px=256, tone=False)
    how = {"pack": pack, "method": "adaptive", "latents": tmp_path / "kept"}
    result = vidinv.edit(clip, tmp_path / "a.mp4", attributes={"smile": 1.0}, **how)
    assert (result.method, result.faces_edited) == ("adaptive", 10)
    (state,) = Path(tmp_path / "kept" / f"{clip.name}.latents").glob("*.state.safetensors")
    written = state.stat().st_mtime_ns
    assert vidinv.invert(clip, tmp_path / "b.mp4", **how).faces_edited == 10
    assert state.stat().st_mtime_ns == written  # not fitted again


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_picture_is_inverted_and_edited_with_a_pack_of_every_kind(kind, tmp_path):
    generator, encoder = build_generator(GENERATORS[kind]), make_encoder(kind)
    config = GENERATORS[kind]
    direction = {"space": "w", "positive": "more", "strength_range": [-2, 2]}
    write_pack(
        tmp_path / "pack",
        {
            "name": "pack",
            "version": "1",
            "licence": "CC0-1.0",
            "alignment": "tight",
            "generator": {
                "kind": kind,
                "config": dataclasses.asdict(config),
                "file": "generator.safetensors",
            },
            "methods": {
                "adaptive": {"file": "adaptive.safetensors", "config": dataclasses.asdict(CONFIG)}
            },
            "directions": {"file": "directions.safetensors", "entries": {"smile": direction}},
        },
        {
            "generator.safetensors": generator.state_dict(),
            "adaptive.safetensors": encoder.state_dict(),
            "directions.safetensors": {"smile": torch.randn(config.w_dim)},
        },
    )
    clip = make_clip(load_pack(), tmp_path / "face.mkv", seconds=0.08, size_px=256, tone=False)
    source, made = tmp_path / "face.png", tmp_path / "made.png"
    write_image(source, images_of(clip)[0])
    how = {"pack": tmp_path / "pack", "method": "adaptive", "overwrite": True}
    assert vidinv.invert(source, made, **how).faces_edited == 1
    inverted = read_image(made)
    assert not np.array_equal(inverted, read_image(source))
    result = vidinv.edit(source, made, attributes={"smile": 2.0}, detail=False, **how)
    assert result.faces_edited == 1
    assert not np.array_equal(inverted, read_image(made))
