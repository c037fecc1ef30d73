"""HyperInverter: its equations, its residuals that are never stored, runs from file to file."""

from __future__ import annotations

import copy
import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import vidinv
from pipelines.demo import make_clip
from tests.packs.tiny import HYPER, make_hyper, write_tiny_pack
from tests.video.clips import images_of, packets_of
from vidinv.arrays import read_arrays
from vidinv.cli import main
from vidinv.errors import PackError, UsageError
from vidinv.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from vidinv.inversion import find_method
from vidinv.inversion.hyper import WEIGHTS, HyperInverter
from vidinv.inversion.hyper_networks import HyperConfig, HyperInverterNetworks, feature_rows
from vidinv.packs import Pack, load_pack
from vidinv.rendering import FaceEditor, chunked
from vidinv.types import EditedLatents, EditSpec, FaceTrack, Frame, Inversion, RenderMode
from vidinv.video import EncodeOptions

FRAMES = 12
LATENT_FILES = ["00000.safetensors", "00001.safetensors"]


def generator_config(resolution: int) -> StyleGAN2Config:
    return StyleGAN2Config(resolution, channel_base=256, channel_max=16, z_dim=8, w_dim=8)


def make_inverter(resolution: int = 32, *, config: HyperConfig = HYPER) -> HyperInverter:
    """Random networks; the mean of w and the strengths of noise are not zero."""
    torch.manual_seed(resolution)
    generator = StyleGAN2Generator(generator_config(resolution)).eval().requires_grad_(False)
    torch.nn.init.normal_(generator.mapping.w_avg)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.1)
    return HyperInverter(generator, make_hyper(config, generator))


@pytest.fixture(scope="module")
def inverter() -> HyperInverter:
    return make_inverter()


def faces(count: int = 3, *, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def residuals_of(inversion: Inversion) -> dict[str, Tensor]:
    return {name.removeprefix(WEIGHTS): code for name, code in inversion.codes.items()}


@pytest.mark.parametrize("resolution", [8, 16, 32, 64, 128])
def test_every_weight_of_the_synthesis_has_a_residual(resolution):
    inverter = make_inverter(resolution)
    inversion = inverter.encode(faces(2, side=resolution))
    assert inversion.latents_NLD.shape == (2, inverter.generator.num_ws, 8)
    weights = inverter.generator.synthesis.layer_weights()
    assert len(weights) == 3 * (resolution.bit_length() - 2) - 1  # conv0, conv1, torgb; 4x4 has two
    found = {layer: tuple(residual.shape) for layer, residual in residuals_of(inversion).items()}
    assert found == {layer: (2, *weight.shape) for layer, weight in weights.items()}
    assert inverter.codes.keys() == inversion.codes.keys() == inverter.codes_for(RenderMode.PASTE)
    assert all(code.stored is None for code in inverter.codes.values())
    picture = inverter.render(inversion, inversion.unedited)
    assert picture.shape == (2, 3, resolution, resolution)


def test_residuals_are_each_face_s_own_and_neither_nothing_nor_all(inverter):
    for layer, residual in residuals_of(inverter.encode(faces())).items():
        weight = inverter.generator.synthesis.layer_weights()[layer]
        assert 0.02 < residual.std() / weight.std() < 1.5, layer
        assert (residual[0] - residual[1]).abs().max() > 1e-4, layer


def test_without_phase_two_the_picture_is_that_of_w(inverter):
    """Row 2 of table 3, with the weights of the whole."""
    config = dataclasses.replace(HYPER, phase_two=False)
    ablated = make_inverter(config=config)
    ablated.networks.load_state_dict(inverter.networks.state_dict())
    inversion = ablated.encode(faces())
    assert not ablated.codes
    assert not inversion.codes
    assert torch.equal(inversion.latents_NLD, inverter.encode(faces()).latents_NLD)
    expected = ablated.generator.synthesis(inversion.latents_NLD)
    assert torch.equal(ablated.render(inversion, inversion.unedited), expected)


@torch.no_grad()
def test_without_fusion_residuals_do_not_see_the_first_picture(inverter):
    """Row 3 of table 3."""
    without = make_inverter(config=dataclasses.replace(HYPER, fusion=False))
    x, *generated = (faces(2, side=64, seed=seed) for seed in range(3))
    for networks, sees in ((inverter.networks, True), (without.networks, False)):
        one, other = (networks.residuals(x, picture) for picture in generated)
        for layer, residual in one.items():
            assert residual.shape[0] == 2
            assert torch.equal(residual, other[layer]) is not sees


def test_without_layers_of_its_own_one_feature_serves_all():
    """Row 4 of table 3."""
    shared = make_inverter(config=dataclasses.replace(HYPER, layer_wise=False))
    assert set(shared.networks.hypernet.rows.values()) == {0}
    assert len(shared.networks.w_bar_encoder.styles) == 1
    inversion = shared.encode(faces(2))
    weights = shared.generator.synthesis.layer_weights()
    found = {layer: tuple(residual.shape) for layer, residual in residuals_of(inversion).items()}
    assert found == {layer: (2, *weight.shape) for layer, weight in weights.items()}


def test_layers_read_the_features_of_the_official_table():
    sizes = {"b4.conv1": 16, "b4.torgb": 3}
    for side in (8, 16, 32):
        sizes |= {f"b{side}.conv0": 16, f"b{side}.conv1": 16, f"b{side}.torgb": 3}
    shapes = {layer: (channels, 16, 3, 3) for layer, channels in sizes.items()}
    assert [*feature_rows(shapes, 8).values()] == [0, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7]


def test_w_is_one_row_around_the_generator_s_mean(inverter):
    latents = inverter.encode(faces()).latents_NLD
    assert torch.equal(latents, latents[:, :1].expand_as(latents))
    x = inverter.networks.resize(faces())
    expected = inverter.networks.w_encoder(x) + inverter.generator.mapping.w_avg
    torch.testing.assert_close(latents[:, 0], expected, rtol=0, atol=1e-5)


def test_rendering_follows_eq_5_of_the_paper(inverter):
    """A copy of the generator for each face, with theta + residual in the place of theta."""
    inversion = inverter.encode(faces())
    moved = inversion.latents_NLD + torch.randn(3, inverter.generator.num_ws, 8)
    offsets = {"b8.conv1": torch.randn(3, 16)}
    for latents, style_offsets in ((inversion.latents_NLD, {}), (moved, {}), (moved, offsets)):
        actual = inverter.render(inversion, EditedLatents(latents, style_offsets))
        for number in range(3):
            changed = copy.deepcopy(inverter.generator)
            for layer, residual in residuals_of(inversion).items():
                changed.synthesis.get_submodule(layer).weight += residual[number]
            own = {layer: offset[number : number + 1] for layer, offset in style_offsets.items()}
            expected = changed.synthesis(latents[number : number + 1], style_offsets=own)
            torch.testing.assert_close(actual[number : number + 1], expected, rtol=0, atol=1e-5)
        without = inverter.generator.synthesis(latents, style_offsets=style_offsets)
        assert (actual - without).abs().mean() > 0.05


def test_without_residuals_the_picture_is_that_of_w(inverter):
    """Up to rounding: weights of each sample's own run as a grouped convolution."""
    zero = copy.deepcopy(inverter)
    for network in zero.networks.hypernet.weight_regressors.values():
        network.w2.zero_()
        network.b2.zero_()
    inversion = zero.encode(faces())
    assert not any(code.any() for code in inversion.codes.values())
    expected = zero.generator.synthesis(inversion.latents_NLD)
    actual = zero.render(inversion, inversion.unedited)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_recomputed_residuals_are_the_very_same(inverter):
    inversion = inverter.encode(faces())
    row = torch.from_numpy(inversion.latents_NLD[:, :1].numpy().copy())  # as files keep it
    stored = Inversion(row.expand_as(inversion.latents_NLD))
    again = inverter.recompute(faces(), stored)
    assert again.latents_NLD is stored.latents_NLD
    assert again.codes.keys() == inversion.codes.keys()
    for name, code in again.codes.items():
        assert torch.equal(code, inversion.codes[name])
    pictures = [inverter.render(i, stored.unedited) for i in (inversion, again)]
    assert torch.equal(*pictures)


def test_a_batch_of_weight_sets_gives_what_single_faces_give(inverter):
    whole = inverter.encode(faces(4))
    pictures = inverter.render(whole, whole.unedited)
    for number in range(4):
        one = inverter.encode(faces(4)[number : number + 1])
        for name, code in one.codes.items():
            torch.testing.assert_close(code[0], whole.codes[name][number], rtol=0, atol=1e-5)
        picture = inverter.render(one, one.unedited)
        torch.testing.assert_close(picture[0], pictures[number], rtol=0, atol=1e-4)


def test_nothing_is_changed_and_nothing_keeps_gradients():
    inverter = make_inverter()
    modules = (inverter.generator, inverter.networks)
    before = [copy.deepcopy(module.state_dict()) for module in modules]
    inversion = inverter.encode(faces())
    inverter.recompute(faces(), inversion)
    assert not inverter.render(inversion, inversion.unedited).requires_grad
    for module, state in zip(modules, before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


def test_rendering_without_residuals_is_refused(inverter):
    inversion = Inversion(inverter.encode(faces()).latents_NLD)
    with pytest.raises(UsageError, match=r"not stored: recompute weights\.b16\.conv0"):
        inverter.render(inversion, inversion.unedited)


@pytest.mark.parametrize("change", [{"input_resolution": 96}, {"blocks": [1, 0, 1, 1]}])
def test_sizes_that_make_no_network_are_refused(tmp_path, change):
    config = dataclasses.asdict(HYPER) | change
    methods = {"hyper": {"file": "hyper.safetensors", "config": config}}
    pack = load_pack(write_tiny_pack(tmp_path / "tiny", hyper=HYPER, methods=methods))
    with pytest.raises(PackError, match="HyperConfig"):
        pack.inverter("hyper")


def test_only_packs_with_its_weights_have_it(tmp_path, capsys):
    assert find_method("hyper").needs_weights
    assert "hyper" in load_pack(write_tiny_pack(tmp_path / "tiny", hyper=HYPER)).methods
    without = write_tiny_pack(tmp_path / "without")
    assert "hyper" not in load_pack(without).methods
    source = tmp_path / "in.mp4"
    source.write_bytes(b"")
    for command in (["edit", "--attr", "smile"], ["invert"]):
        arguments = [command[0], source, "-o", tmp_path / "out.mp4", *command[1:]]
        assert main([str(a) for a in (*arguments, "--method", "hyper", "--pack", without)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "unknown method in pack tiny 'hyper'; there are: fse" in line


class Kept:
    """Keeps latents, and codes that are to be stored, as files do."""

    def __init__(self) -> None:
        self.found: dict[range, Inversion] = {}

    def get(self, track, frames, *, codes):
        return self.found.get(frames)

    def put(self, track, frames, inversion):
        self.found[frames] = inversion.on_cpu()


class Once(HyperInverter):
    """Encodes a number of chunks and no more."""

    chunks = 2

    def encode(self, *arguments, **how):
        self.chunks -= 1
        assert self.chunks >= 0, "encoded again"
        return super().encode(*arguments, **how)


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Pack:
    return load_pack(write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny", hyper=HYPER))


def test_an_editor_makes_the_same_faces_from_kept_latents(pack):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (FRAMES, 64, 64, 3), np.uint8, endpoint=True)
    frames = [Frame(i, i, Fraction(1, 25), picture) for i, picture in enumerate(pictures)]
    crops = np.repeat([[32.0, 32.0, 20.0, 0.0]], FRAMES, 0)
    landmarks = np.zeros((FRAMES, 68, 2), np.float32)
    track = FaceTrack(0, 0, 0, landmarks, crops, np.ones(FRAMES, bool))
    kept, method = Kept(), pack.inverter("hyper")
    made = []
    once = Once(method.generator, method.networks)
    for saved in (None, kept, kept):
        editor = FaceEditor(
            method if saved is None else once,
            resolution=pack.resolution,
            alignment=pack.alignment,
            directions=pack.directions(),
            spec=EditSpec({"smile": ((0.0, 1.0),)}, "hyper"),
            tracks=[track],
            shots=[(0, FRAMES - 1)],
            saved=saved,
        )
        made.append(
            [f for c in editor.process(chunked(frames, [(0, FRAMES - 1)])) for f in c.faces]
        )
    assert [inversion.codes for inversion in kept.found.values()] == [{}, {}]
    assert np.abs(made[0][0][0].edited - made[0][0][0].rendered).mean() > 1
    for faces_of_frame in zip(*made, strict=True):
        first, *others = [face for (face,) in faces_of_frame]
        for other in others:
            assert np.array_equal(first.rendered, other.rendered)
            assert np.array_equal(first.edited, other.edited)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return make_clip(load_pack(), path, seconds=FRAMES / 25, size_px=256)


@pytest.mark.parametrize("command", ["edit", pytest.param("invert", marks=pytest.mark.slow)])
def test_a_clip_goes_through_and_its_latents_serve_again(pack, clip, tmp_path, command):
    how = {"pack": pack, "method": "hyper", "encode": EncodeOptions(encoder="ffv1")}
    if command == "edit":
        how["attributes"] = {"smile": 2.0}
    run = getattr(vidinv, command)
    outputs = [tmp_path / f"{name}.mkv" for name in ("plain", "first", "again")]
    results = [run(clip, outputs[0], **how)]
    results += [run(clip, output, latents=tmp_path / "kept", **how) for output in outputs[1:]]
    assert {result.method for result in results} == {"hyper"}
    assert all(result.frames == result.faces_edited == FRAMES for result in results)
    plain, first, again = (images_of(output) for output in outputs)
    assert not np.array_equal(plain, images_of(clip))
    assert np.array_equal(plain, first)
    assert np.array_equal(plain, again)
    assert len({tuple(packets_of(output, "audio")) for output in outputs}) == 1
    folder = tmp_path / "kept" / f"{clip.name}.latents"
    for path in folder.glob("[0-9]*.safetensors"):
        arrays, _ = read_arrays(path)
        assert [*arrays] == ["0.latents_TLD"]
        assert path.stat().st_size < 4096
    tracks = vidinv.load_latents(folder)
    assert tracks[0].codes == {}
    assert tracks[0].latents_TLD.shape == (FRAMES, pack.generator_config.num_ws, 8)


def test_the_command_line_takes_it(pack, clip, tmp_path, capsys):
    output = tmp_path / "out.mp4"
    arguments = ["invert", clip, "-o", output, "--method", "hyper", "--pack", pack.folder, "--json"]
    assert main([str(argument) for argument in (*arguments, "--quiet")]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "hyper"


def write_pack_on(folder: Path, first: str) -> Path:
    """The tiny pack with a hyper that has no E1: the method ``first`` gives its latents."""
    generator = load_pack(write_tiny_pack(folder / "plain")).generator
    weights = generator.synthesis.layer_weights()
    torch.manual_seed(0)
    networks = HyperInverterNetworks(HYPER, generator.config, weights, has_w_encoder=False)
    config = dataclasses.asdict(HYPER)
    entry = {"file": "hyper.safetensors", "config": config, "first_phase": first}
    return write_tiny_pack(folder / "tiny", added={"hyper": (entry, networks.state_dict())})


def test_another_method_of_the_pack_gives_the_latents_of_phase_one(tmp_path):
    pack = load_pack(write_pack_on(tmp_path, "fse"))
    x, inverter = faces(), pack.inverter("hyper")
    latents = pack.inverter("fse").encode_latents(x)
    inversion = inverter.encode(x)
    assert torch.equal(inversion.latents_NLD, latents)
    assert torch.equal(inverter.encode_latents(x), latents)
    residuals = inverter.networks.residuals(
        inverter.networks.resize(x), inverter.networks.resize(pack.generator.synthesis(latents))
    )
    assert not any("w_encoder" in name for name, _ in inverter.networks.named_parameters())
    expected = pack.generator.synthesis(latents, weight_residuals=residuals)
    torch.testing.assert_close(inverter.render(inversion, inversion.unedited), expected)
    digest = pack.inversion_digest("hyper")
    meta = json.loads((pack.folder / "pack.json").read_text())
    meta["methods"]["fse"]["edit_rule"] = "eq1"
    (pack.folder / "pack.json").write_text(json.dumps(meta))
    assert load_pack(pack.folder).inversion_digest("hyper") != digest


@pytest.mark.parametrize(
    ("first", "said"), [("fsr", "which the pack has not"), ("pti", "is fitted to tracks")]
)
def test_a_first_phase_that_gives_no_latents_is_refused(tmp_path, first, said):
    with pytest.raises(PackError, match=said):
        load_pack(write_pack_on(tmp_path, first)).inverter("hyper")
