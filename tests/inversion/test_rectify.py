"""ReGANIE: its equations done naively, its ablations, what it wraps, runs from file to file."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import vidinv
from pipelines.clip.networks import Networks
from pipelines.clip.session import ClipSession
from pipelines.demo import make_clip
from tests.packs.tiny import GENERATOR, HYPER, write_tiny_pack
from tests.video.clips import images_of
from vidinv.errors import PackError, UsageError
from vidinv.generators.layers import fir_kernel
from vidinv.inversion.rectify import FIRST, RectifyInverter
from vidinv.inversion.rectify_networks import (
    GLOBAL,
    SPATIAL,
    ModulatedLayer,
    Rectifier,
    RectifierConfig,
)
from vidinv.packs import Pack, load_pack
from vidinv.types import EditedLatents, EditSpec, Inversion, RenderMode
from vidinv.video import EncodeOptions, open_reader

TINY = RectifierConfig(32, widths=(4, 4, 6, 6, 8), spatial_width=5, global_width=7)
FRAMES = 12


def make_rectifier(config: RectifierConfig = TINY) -> Rectifier:
    """Random weights; biases, and the last layer of residuals, are not zero."""
    torch.manual_seed(0)
    rectifier = Rectifier(config).eval().requires_grad_(False)
    for name, parameter in rectifier.named_parameters():
        if name.endswith("bias"):
            parameter.add_(0.1 * torch.randn(parameter.shape))
    torch.nn.init.normal_(rectifier.generator.torgb.weight)
    return rectifier


def entry_of(config: RectifierConfig = TINY, **more) -> dict:
    return {"file": "rectify.safetensors", "config": dataclasses.asdict(config), **more}


def write_pack_with(folder: Path, config: RectifierConfig = TINY, **more) -> Path:
    """The tiny pack with a rectifier; ``more`` goes into its entry."""
    entry, weights = entry_of(config, **more), make_rectifier(config).state_dict()
    added = {"rectify": (entry, weights)}
    return write_tiny_pack(folder, hyper=HYPER, added=added)


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Pack:
    return load_pack(write_pack_with(tmp_path_factory.mktemp("packs") / "tiny"))


@pytest.fixture(scope="module")
def inverter(pack) -> RectifyInverter:
    return pack.inverter("rectify")


def faces(count: int = 2, *, side: int = 32) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_codes_and_maps_have_the_sizes_of_the_paper():
    """512 px: f_x and sp of 32x32, gl of 2048; weights are never filled."""
    with torch.device("meta"):
        rectifier = Rectifier(RectifierConfig())
        x = torch.zeros(1, 3, 512, 512)
        codes = rectifier.codes(x, x)
        f_x = rectifier.primary_encoder(x)
        picture = rectifier(x, codes)
    assert f_x.shape == codes[SPATIAL].shape == (1, 512, 32, 32)
    assert codes[GLOBAL].shape == (1, 2048)
    assert picture.shape == (1, 3, 512, 512)
    layers = rectifier.generator.layers
    assert [layer.by for layer in layers] == [SPATIAL, GLOBAL] * 5
    assert sum(layer.up for layer in layers) == 4


def naive_layer(layer: ModulatedLayer, f: Tensor, styles_NIHW: Tensor) -> Tensor:
    """(f . style) * w + b of eqs. 7 and 8, place by place, demodulated; no doubling."""
    padded = F.pad(f * styles_NIHW, [1, 1, 1, 1])
    y = torch.zeros(len(f), len(layer.weight), *f.shape[-2:])
    for row in range(f.shape[-2]):
        for column in range(f.shape[-1]):
            seen = padded[:, :, row : row + 3, column : column + 3]
            value = torch.einsum("nikl,oikl->no", seen, layer.weight)
            here = styles_NIHW[:, :, row, column]
            own = layer.weight * here[:, None, :, None, None]
            norm = own.square().sum(dim=(2, 3, 4)).add(1e-8).sqrt()
            y[:, :, row, column] = value / norm + layer.bias
    return torch.where(y > 0, y, 0.2 * y) * 2**0.5


def test_layers_follow_eqs_7_and_8(inverter):
    """A code is enlarged first here, and mapped after: it is the same."""
    spatial, by_global = inverter.rectifier.generator.layers[:2]
    codes = {SPATIAL: torch.randn(2, 5, 2, 2), GLOBAL: torch.randn(2, 7)}
    f = torch.randn(2, 8, 4, 4)
    larger = F.interpolate(codes[SPATIAL], (4, 4), mode="bilinear")
    weight = spatial.affine.weight[:, :, 0, 0] / 5**0.5
    styles = torch.einsum("ic,nchw->nihw", weight, larger) + spatial.affine.bias[:, None, None]
    expected = naive_layer(spatial, f, styles)
    torch.testing.assert_close(spatial(f, codes), expected, rtol=0, atol=1e-5)
    styles = codes[GLOBAL] @ by_global.affine.weight.T / 7**0.5 + by_global.affine.bias
    expected = naive_layer(by_global, f, styles[:, :, None, None].expand_as(f))
    torch.testing.assert_close(by_global(f, codes), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_a_spatial_code_that_is_the_same_everywhere_is_a_global_one(up):
    torch.manual_seed(0)
    spatial = ModulatedLayer(6, 4, TINY, by=SPATIAL, up=up)
    by_global = ModulatedLayer(6, 4, dataclasses.replace(TINY, global_width=5), by=GLOBAL, up=up)
    with torch.no_grad():
        by_global.weight.copy_(spatial.weight)
        by_global.affine.weight.copy_(spatial.affine.weight[:, :, 0, 0])
    code, f = torch.randn(2, 5), torch.randn(2, 6, 4, 4)
    expected = by_global(f, {GLOBAL: code})
    actual = spatial(f, {SPATIAL: code[:, :, None, None].expand(-1, -1, 2, 2)})
    assert actual.shape == (2, 4, 8 if up else 4, 8 if up else 4)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    assert torch.equal(spatial.resample_filter, fir_kernel())


def test_inversion_and_edit_follow_algorithm_1(pack, inverter):
    """X_r = G_p(E_p(X^), E_d(X - X^)) and Y_r = G_p(E_p(Y^), E_d(X - X^)) with G and E of fse."""
    x, first, rectifier = faces(), pack.inverter("fse"), inverter.rectifier
    w = first.encode(x).latents_NLD
    x_hat = pack.generator.synthesis(w)
    codes = rectifier.difference_encoder.codes(x - x_hat)
    inversion = inverter.encode(x)
    assert torch.equal(inversion.latents_NLD, w)
    assert inversion.codes.keys() == inverter.codes.keys() == {SPATIAL, GLOBAL}
    assert not any(code.stored for code in inverter.codes.values())
    moved = w + torch.randn(w.shape, generator=torch.Generator().manual_seed(1))
    offsets = {"b8.conv1": torch.ones(2, GENERATOR.style_channels["b8.conv1"])}
    for edited in (EditedLatents(w), EditedLatents(moved), EditedLatents(moved, offsets)):
        y_hat = pack.generator.synthesis(edited.latents_NLD, style_offsets=edited.style_offsets)
        expected = rectifier.generator(rectifier.primary_encoder(y_hat), codes)
        torch.testing.assert_close(inverter.render(inversion, edited), expected, rtol=0, atol=1e-5)
        assert (expected - y_hat).abs().mean() > 0.05


def test_the_difference_decides_the_codes_and_every_face_has_its_own(inverter):
    x, other = faces(), faces().flip(-1)
    codes, others = inverter.encode(x).codes, inverter.rectifier.codes(x, x)
    for name, code in codes.items():
        assert (code[0] - code[1]).abs().max() > 1e-4, name
        assert (code - others[name]).abs().max() > 1e-4, name
        one = inverter.encode(x[1:]).codes[name]
        torch.testing.assert_close(one[0], code[1], rtol=0, atol=1e-5)
    shifted = inverter.rectifier.codes(x + other, other)
    for name, code in inverter.rectifier.codes(x, torch.zeros_like(x)).items():
        torch.testing.assert_close(shifted[name], code, rtol=0, atol=1e-5)


@pytest.mark.parametrize("modulation", [SPATIAL, GLOBAL])
def test_either_modulation_stands_alone(modulation):
    config = dataclasses.replace(TINY, modulation=modulation)
    rectifier = make_rectifier(config)
    assert {layer.by for layer in rectifier.generator.layers} == {modulation}
    codes = rectifier.codes(faces(), faces().flip(-1))
    assert codes.keys() == {modulation}
    assert rectifier(faces(), codes).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("read", ["source", "pair"])
def test_the_input_of_the_rectifier_may_be_another(read):
    rectifier = make_rectifier(dataclasses.replace(TINY, difference_input=read))
    x, x_hat = faces(), faces().flip(-1)
    expected = x if read == "source" else torch.cat([x, x_hat], dim=1)
    codes = rectifier.codes(x, x_hat)
    for name, code in rectifier.difference_encoder.codes(expected).items():
        assert torch.equal(codes[name], code)
    same = rectifier.codes(x, x)
    assert torch.equal(same[SPATIAL], codes[SPATIAL]) == (read == "source")


def test_residuals_are_added_to_the_first_phase_and_training_starts_from_it():
    config = dataclasses.replace(TINY, output="residual")
    x, fresh, rectifier = faces(side=64), Rectifier(config), make_rectifier(config)
    assert torch.equal(fresh(x, fresh.codes(x, x.flip(-1))), x)
    codes = rectifier.codes(x, x.flip(-1))
    small = F.avg_pool2d(x, 2)
    made = rectifier.generator(rectifier.primary_encoder(small), codes)
    larger = F.interpolate(made, (64, 64), mode="bilinear")
    torch.testing.assert_close(rectifier(x, codes), x + larger, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"resolution": 48},
        {"widths": [4, 4]},
        {"widths": [4, 4, 4, 4, 4, 4]},
        {"modulation": "both"},
        {"difference_input": "edit"},
        {"output": "image"},
    ],
)
def test_configurations_that_make_no_network_are_refused(change):
    with pytest.raises(ValueError, match="must be"):
        dataclasses.replace(TINY, **change)


@pytest.mark.parametrize("first", ["fse", "hyper", "wplus"])
@pytest.mark.parametrize("uses_codes", [False, True])
def test_it_wraps_the_method_that_the_pack_names(tmp_path, first, uses_codes):
    """By its latents, or with codes of its own; what is not stored is made again, the same."""
    more = {"first_phase": first, "first_phase_codes": uses_codes}
    pack = load_pack(write_pack_with(tmp_path / "tiny", **more))
    inverter, alone = pack.inverter("rectify"), pack.inverter(first)
    x = faces()
    inversion, phase_one = inverter.encode(x), alone.encode(x)
    assert torch.equal(inversion.latents_NLD, phase_one.latents_NLD)
    inner = {FIRST + name for name in alone.codes} if uses_codes else set()
    assert inversion.codes.keys() == inverter.codes.keys() == inner | {SPATIAL, GLOBAL}
    assert inverter.codes_for(RenderMode.INVERT) == inverter.codes.keys()
    if uses_codes:
        x_hat = alone.render(phase_one, phase_one.unedited)
    else:
        x_hat = pack.generator.synthesis(phase_one.latents_NLD)
    codes = inverter.rectifier.codes(x, x_hat)
    picture = inverter.render(inversion, inversion.unedited)
    torch.testing.assert_close(picture, inverter.rectifier(x_hat, codes), rtol=0, atol=1e-5)
    stored = {name for name, code in inverter.codes.items() if code.stored}
    again = inverter.recompute(x, inversion.with_codes(stored))
    assert again.codes.keys() == inversion.codes.keys()
    assert torch.equal(inverter.render(again, again.unedited), picture)


def test_steps_of_a_searching_first_phase_are_told(tmp_path):
    steps = []
    inverter = load_pack(write_pack_with(tmp_path / "tiny", first_phase="wplus")).inverter(
        "rectify"
    )
    inverter.on_step = lambda: steps.append(1)
    inverter.encode(faces(1))
    assert len(steps) == inverter.first.config.steps


def test_the_networks_of_both_phases_decide_an_inversion(tmp_path):
    packs = [
        load_pack(write_pack_with(tmp_path / "plain")),
        load_pack(write_pack_with(tmp_path / "first", first_phase="hyper")),
        load_pack(write_pack_with(tmp_path / "width", dataclasses.replace(TINY, spatial_width=6))),
    ]
    digests = {pack.inversion_digest("rectify") for pack in packs}
    assert len({*digests, packs[0].inversion_digest("fse")}) == 4
    meta = json.loads((packs[0].folder / "pack.json").read_text())
    meta["methods"]["fse"]["edit_rule"] = "eq1"
    (packs[0].folder / "pack.json").write_text(json.dumps(meta))
    assert load_pack(packs[0].folder).inversion_digest("rectify") not in digests


@pytest.mark.parametrize(
    ("first", "said"), [("fsr", "starts from 'fsr', which the pack has not"), ("rectify", "other")]
)
def test_a_first_phase_that_is_not_there_is_said(tmp_path, first, said):
    pack = load_pack(write_pack_with(tmp_path / "tiny", first_phase=first))
    for use in (pack.inverter, pack.inversion_digest):
        with pytest.raises(PackError, match=said):
            use("rectify")


def test_rendering_without_codes_is_refused(inverter):
    inversion = Inversion(inverter.encode(faces()).latents_NLD)
    with pytest.raises(UsageError, match="not stored: recompute spatial"):
        inverter.render(inversion, inversion.unedited)


def test_nothing_of_the_pack_is_changed(pack, inverter):
    modules = (pack.generator, inverter.rectifier)
    before = [copy.deepcopy(module.state_dict()) for module in modules]
    inversion = inverter.encode(faces())
    assert not inverter.render(inversion, inversion.unedited).requires_grad
    for module, state in zip(modules, before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return make_clip(load_pack(), path, seconds=FRAMES / 25, size_px=256, tone=False)


def test_a_clip_goes_through_and_its_latents_serve_again(pack, clip, tmp_path):
    """Also from ``edit`` to ``invert``."""
    how = {"pack": pack, "method": "rectify", "latents": tmp_path / "kept"}
    how["encode"] = EncodeOptions(encoder="ffv1")
    outputs = [tmp_path / f"{name}.mkv" for name in ("first", "again", "inverted")]
    results = [vidinv.edit(clip, o, attributes={"smile": 2.0}, **how) for o in outputs[:2]]
    results.append(vidinv.invert(clip, outputs[2], **how))
    assert all(result.faces_edited == FRAMES for result in results)
    images = [images_of(path) for path in (*outputs, clip)]
    assert np.array_equal(images[0], images[1])
    assert all(not np.array_equal(images[0], others) for others in images[2:])
    assert not np.array_equal(images[2], images[3])
    tracks = vidinv.load_latents(tmp_path / "kept" / f"{clip.name}.latents")
    assert tracks[0].codes == {}


def test_segments_give_what_the_whole_clip_gives(pack, clip):
    """As ``batch`` renders them."""
    spec = EditSpec({"smile": ((0.0, 1.0),)}, method="rectify", mode=RenderMode.PASTE)
    session = ClipSession(clip, spec, Networks(pack, "rectify"), segment_frames=8)
    with open_reader(clip) as reader:
        plan = session.make_plan(reader, reader.info, has_exact_times=lambda: True)
    assert not session.needs_fit(plan.analysis.tracks)

    def pictures(segment):
        with open_reader(clip, part=plan.part(segment)) as reader:
            return [picture for _, picture in session.render(plan, segment, reader, {})]

    parts = [picture for segment in plan.segments for picture in pictures(segment)]
    assert len(plan.segments) == 2
    assert all(map(np.array_equal, parts, pictures(plan.output)))
