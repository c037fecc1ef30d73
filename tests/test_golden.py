"""Every golden vector: outputs of official code, on weights in the layouts that are imported.

    VIDINV_GOLDEN=FOLDER pytest -k golden

Sizes come from the weights themselves, so that other vectors of the same form pass as well.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch

from tests.golden import GoldenCase, golden_folder
from vidinv.checkpoints.importing import ImportFile, import_pack
from vidinv.checkpoints.nvidia import read_networks
from vidinv.checkpoints.rosinality import (
    discriminator_from_rosinality,
    discriminator_to_rosinality,
    generator_from_rosinality,
    generator_to_rosinality,
)
from vidinv.checkpoints.sizes import discriminator_config, stylegan2_config, stylegan3_config
from vidinv.generators.discriminator import StyleGAN2Discriminator
from vidinv.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from vidinv.generators.stylegan3 import StyleGAN3Generator
from vidinv.inversion.hyper import WEIGHTS, HyperInverter
from vidinv.inversion.hyper_networks import HyperConfig, HyperInverterNetworks
from vidinv.inversion.psp_encoder import PspConfig, PspEncoder
from vidinv.metrics.lpips import LPIPS
from vidinv.networks.bisenet import BiSeNet, normalise
from vidinv.networks.irse import ArcFace
from vidinv.packs import load_pack
from vidinv.types import Inversion

pytestmark = pytest.mark.usefixtures("without_gradients")
RECORDED_FFHQ = StyleGAN2Config(1024)


@pytest.fixture
def without_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def folder(shared_dir) -> Path:
    return golden_folder(shared_dir)


@pytest.fixture(scope="module")
def nvidia(folder):
    """Case 02 and its generator, which case 10 renames."""
    (path,) = folder.glob("02_*_g*.json")
    case = GoldenCase(folder, path.stem)
    return case, generator_of(case.state("G_ema"))


def find(folder: Path, pattern: str) -> GoldenCase:
    (path,) = folder.glob(f"{pattern}.json")
    return GoldenCase(folder, path.stem)


def generator_of(state: dict[str, torch.Tensor]) -> StyleGAN2Generator:
    generator = StyleGAN2Generator(stylegan2_config(state)).eval()
    generator.load_state_dict(state)
    return generator


def discriminator_of(state: dict[str, torch.Tensor]) -> StyleGAN2Discriminator:
    discriminator = StyleGAN2Discriminator(discriminator_config(state)).eval()
    discriminator.load_state_dict(state)
    return discriminator


@pytest.mark.slow  # so many weights to draw
def test_01_rosinality_generator(folder):
    case = find(folder, "01_rosinality_g*")
    theirs = case.state("g_ema")
    w_avg = torch.zeros(len(theirs["style.1.weight"]))
    generator = generator_of(generator_from_rosinality(theirs, w_avg))
    latents = case.input("wplus")
    case.check("image_wplus", generator.synthesis(latents))
    case.check("image_wplus_zero_noise", generator.synthesis(latents, noise_mode="none"))
    case.check("image_z", generator(case.input("z")))
    case.check("w_from_z", generator.mapping(case.input("z")))


def test_02_nvidia_generator(nvidia):
    case, generator = nvidia
    latents, z = case.input("ws"), case.input("z")
    case.check("image_ws", generator.synthesis(latents))
    case.check("image_ws_noise_none", generator.synthesis(latents, noise_mode="none"))
    case.check("ws_from_z", generator.mapping(z))
    case.check("image_z", generator(z))
    case.check("image_z0_psi0.7", generator(z[:1], truncation=0.7))


def test_02_nvidia_discriminator(folder):
    case = find(folder, "02_*_d*")
    discriminator = discriminator_of(case.state("D"))
    images = case.input("d_img")
    case.check("logits_batch4", discriminator(images))
    case.check("logits_single", torch.cat([discriminator(image[None]) for image in images]))


@pytest.mark.parametrize("kind", ["t", "r"])
def test_03_stylegan3(folder, kind):
    case = find(folder, f"03_stylegan3_{kind}*")
    state = case.state("G_ema")
    generator = StyleGAN3Generator(stylegan3_config(state)).eval()
    made = {k: v.clone() for k, v in generator.state_dict().items() if k.endswith("_filter")}
    for name, kernel in made.items():  # ours, designed anew, are the recorded ones
        torch.testing.assert_close(kernel, state[name], rtol=0, atol=1e-6)
    generator.load_state_dict(state)
    latents = case.input("ws")
    case.check("image_ws", generator.synthesis(latents))
    case.check("image_z", generator(case.input("z")))
    case.check("w_from_z", generator.mapping(case.input("z")))
    for name, value in generator.named_buffers():
        if name.endswith("magnitude_ema"):
            value.fill_(float(case.latent_of_key(name).abs() + 0.5))
    case.check("image_ws0_magnitude_ema", generator.synthesis(latents[:1]))
    generator.load_state_dict(state)
    cos, sin = torch.tensor(0.5).cos(), torch.tensor(0.5).sin()
    generator.synthesis.input.transform.copy_(
        torch.tensor([[cos, sin, 0.125], [-sin, cos, -0.25], [0, 0, 1]])
    )
    case.check("image_ws0_transform", generator.synthesis(latents[:1]))


@pytest.mark.slow  # 220 million numbers are drawn
@pytest.mark.parametrize(("name", "rows"), [("04_e4e", "offsets"), ("05_psp", "own")])
def test_04_and_05_encoders(folder, name, rows):
    case = find(folder, f"{name}_encoder*")
    encoder = PspEncoder(PspConfig(rows=rows), RECORDED_FFHQ).eval()
    encoder.load_state_dict({**case.state("encoder"), "latent_avg": encoder.latent_avg})
    codes = encoder(case.input("x"))
    case.check("codes", codes)
    if rows == "offsets":
        case.check("codes_stage0_row0", codes[:, 0])


@pytest.mark.slow  # so many weights to draw
def test_06_arcface(folder):
    case = find(folder, "06_*")
    network = ArcFace().eval()
    network.load_state_dict(case.state("facenet"))
    case.check("embedding", network(case.input("x")))
    case.check("embedding_from_256", network.embed_ffhq_crop(case.input("y")))


def test_07_face_parsing(folder):
    case = find(folder, "07_bisenet*")
    network = BiSeNet().eval()
    network.load_state_dict(case.state("bisenet"))
    x = normalise(case.input("x"))
    main, at8, at16 = network.all_heads(x)
    case.check("out_main", main[:, :, 4::8, 4::8])
    case.check("out16_s64", at8[:, :, 16::64, 16::64])
    case.check("out32_s64", at16[:, :, 16::64, 16::64])


@pytest.mark.parametrize("resolution", [64, pytest.param(1024, marks=pytest.mark.slow)])
def test_08_hyperinverter(folder, resolution):
    case = find(folder, f"08_hyperinverter_{resolution}")
    generator = generator_of(case.state("decoder")).requires_grad_(False)
    hypernet = case.state("hypernet")
    hidden = len(next(value for key, value in hypernet.items() if key.endswith(".w1")))
    networks = HyperInverterNetworks(
        HyperConfig(hidden_width=hidden), generator.config, generator.synthesis.layer_weights()
    )
    networks.hypernet.load_state_dict(hypernet)
    for name in ("w_encoder", "w_bar_encoder"):
        networks.get_submodule(name).load_state_dict(case.state(name))
    inverter = HyperInverter(generator, networks.eval().requires_grad_(False))
    x, x_hat = case.input("x"), case.input("xhat")
    case.check("w_E1", networks.w_encoder(x))
    for name, picture in (("x", x), ("xhat", x_hat)):
        features = torch.stack(networks.w_bar_encoder(picture), dim=1)
        case.check(f"E2_{name}_sample", features[:, :, ::64, ::4, ::4])
    check_residuals(case, "direct", networks.residuals(x, x_hat))
    inversion = inverter.encode(x)
    check_residuals(case, "chain", residuals_of(inversion))
    step = slice(None) if resolution == 64 else slice(8, None, 16)
    picture_of_w = generator.synthesis(inversion.latents_NLD)
    case.check("w_image", picture_of_w[:, :, step, step])
    picture = inverter.render(inversion, inversion.unedited)
    case.check("final_image", picture[:, :, step, step])


def residuals_of(inversion: Inversion) -> dict[str, torch.Tensor]:
    return {name.removeprefix(WEIGHTS): code for name, code in inversion.codes.items()}


def check_residuals(case: GoldenCase, name: str, residuals: dict[str, torch.Tensor]) -> None:
    own = [residuals[layer.removesuffix(".weight")] for layer in case.description["layers"]]
    case.check(f"{name}_first32", torch.stack([residual.flatten()[:32] for residual in own]))
    spread = [(r.double().mean().float(), r.double().std(correction=0).float()) for r in own]
    case.check(f"{name}_mean_std", torch.tensor(spread))


@pytest.mark.parametrize("backbone", ["alex", "squeeze"])
def test_09_lpips(folder, backbone):
    lpips = pytest.importorskip("lpips", reason="needs lpips: make setup-dev")
    case = find(folder, f"09_lpips_{backbone}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torchvision, about the package's call
        network = lpips.LPIPS(net=backbone, verbose=False, pnet_rand=True)
    network.load_state_dict(case.state("lpips"))
    measure = LPIPS(backbone, network=network)
    a, b = case.input("a"), case.input("b")
    case.check("dist_ab", measure(a, b))
    case.check("dist_ab_per_layer", measure.layers(a, b))
    case.check("dist_a_c", measure(a, 0.75 * a + 0.25 * b))
    case.check("dist_aa", measure(a, a))


def test_10_nvidia_to_rosinality(folder, nvidia):
    case = find(folder, "10_*")
    inputs, generator = nvidia
    theirs, latent_avg = generator_to_rosinality(generator.state_dict())
    check_names(case, "generator", generator.state_dict(), theirs)
    again = generator_of(generator_from_rosinality(theirs, latent_avg))
    for name, value in generator.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    z = inputs.input("z")
    case.check("image_ws", again.synthesis(inputs.input("ws")))
    case.check("image_z0", again(z[:1]), as_name="image_z")
    case.check("w_from_z", again.mapping(z))


@pytest.mark.slow  # so many weights to draw
def test_10_nvidia_to_rosinality_discriminator(folder):
    case, source = find(folder, "10_*"), find(folder, "02_*_d*")
    state = source.state("D")
    theirs = discriminator_to_rosinality(state)
    check_names(case, "discriminator", state, theirs)
    again = discriminator_of(discriminator_from_rosinality(theirs))
    case.check("logits_batch4", again(source.input("d_img")))


def check_names(case: GoldenCase, which: str, ours: dict, theirs: dict) -> None:
    """Every tensor lies where the official conversion has it, and there are no others."""
    table = case.description[f"{which}_mapping"]
    kernels = case.description[f"rosinality_{which}_keys_not_from_nvidia"]
    assert set(theirs) == {row[1] for row in table} | set(kernels)
    for source, target, _, shape in table:
        assert list(theirs[target].shape) == shape
        assert torch.equal(theirs[target].flatten(), ours[source].flatten())


@pytest.fixture(scope="module", params=["protocol 4", "protocol 3"])
def pickled(request, folder) -> tuple[GoldenCase, dict]:
    case = find(folder, "nvidia_sg2_tiny")
    wanted = int(request.param[-1])
    (name,) = [n for n, f in case.description["files"].items() if f["protocol"] == wanted]
    return case, read_networks(folder / name)


def test_pickles_of_nvidia_give_every_tensor(pickled):
    case, networks = pickled
    assert set(networks) == {"G", "D", "G_ema"}
    for name, state in networks.items():
        expected = case.state(name)
        assert set(state) == set(expected)
        for key, value in expected.items():
            torch.testing.assert_close(state[key], value, rtol=1e-6, atol=0)


def test_pickles_of_nvidia_give_the_official_pictures(pickled):
    case, networks = pickled
    z = case.input("z")
    for name in ("G", "G_ema"):
        case.check(f"{name}_image_z", generator_of(networks[name])(z))
    ema = generator_of(copy.deepcopy(networks["G_ema"]))
    case.check("G_ema_image_z_psi0.7", ema(z, truncation=0.7))
    case.check("D_logits", discriminator_of(networks["D"])(case.input("d_img")))


def test_pickles_of_nvidia_become_packs(folder, pickled, tmp_path):
    case, _ = pickled
    (name,) = [n for n, f in case.description["files"].items() if f["protocol"] == 3]
    import_pack([ImportFile(folder / name)], tmp_path / "pack", half=False)
    pack = load_pack(tmp_path / "pack")
    assert pack.meta["imported"][0]["layout"] == "NVIDIA's StyleGAN2"
    case.check("G_ema_image_z", pack.generator(case.input("z")))
