"""StyleGAN1, PGGAN and BigGAN-deep files: small ones, computed anew from their papers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vidinv.checkpoints.biggan import read_biggan
from vidinv.checkpoints.genforce import read_genforce
from vidinv.checkpoints.importing import ImportFile, import_pack
from vidinv.generators.biggan import BigGANConfig
from vidinv.generators.pggan import PGGANConfig
from vidinv.generators.registry import build_generator
from vidinv.generators.stylegan1 import StyleGAN1Config
from vidinv.packs import load_pack

GAIN = math.sqrt(2)


def draw(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=random) for key, shape in shapes.items()}


def loaded(config, state):
    generator = build_generator(config).eval().requires_grad_(False)
    generator.load_state_dict(state)
    return generator


def stylegan1_file(resolution: int) -> dict[str, Tensor]:
    channels, latent, shapes = 4, 6, {"truncation.w_avg": (6,)}
    for index in range(2):
        shapes[f"mapping.dense{index}.weight"] = (latent, latent)
        shapes[f"mapping.dense{index}.bias"] = (latent,)
    shapes["synthesis.layer0.const"] = (1, channels, 4, 4)
    blocks = resolution.bit_length() - 2
    for layer in range(2 * blocks):
        name, side = f"synthesis.layer{layer}", 4 << layer // 2
        if layer:
            shapes[f"{name}.weight"] = (channels, channels, 3, 3)
        shapes[f"{name}.bias"] = (channels,)
        shapes[f"{name}.style.weight"] = (2 * channels, latent)
        shapes[f"{name}.style.bias"] = (2 * channels,)
        shapes[f"{name}.apply_noise.weight"] = (channels,)
        shapes[f"{name}.apply_noise.noise"] = (1, 1, side, side)
    for block in range(blocks):
        shapes[f"synthesis.output{block}.weight"] = (3, channels, 1, 1)
        shapes[f"synthesis.output{block}.bias"] = (3,)
    return {**draw(shapes), "synthesis.lod": torch.zeros([])}


def blurred(x: Tensor) -> Tensor:
    taps = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def enlarged(x: Tensor, weight: Tensor) -> Tensor:
    """As the paper's code does it: fused from 128 px on, in two steps below."""
    if 2 * x.shape[-1] < 128:
        return F.conv2d(F.interpolate(x, scale_factor=2), weight, padding=1)
    padded = F.pad(weight, (1, 1, 1, 1))
    four = sum(padded[:, :, a : a + 4, b : b + 4] for a in (0, 1) for b in (0, 1))
    return F.conv_transpose2d(x, four.transpose(0, 1), stride=2, padding=1)


def stylegan1_picture(file: dict[str, Tensor], z: Tensor, resolution: int) -> Tensor:
    w = z / z.square().mean(dim=1, keepdim=True).sqrt()
    for index in range(2):
        weight = file[f"mapping.dense{index}.weight"] * (0.01 * GAIN / math.sqrt(w.shape[1]))
        w = F.leaky_relu(w @ weight.T + 0.01 * file[f"mapping.dense{index}.bias"], 0.2)
    for layer in range(2 * (resolution.bit_length() - 2)):
        part = {k.split(".", 2)[2]: v for k, v in file.items() if f"sis.layer{layer}." in k}
        if layer == 0:
            x = part["const"].expand(len(z), -1, -1, -1)
        else:
            weight = part["weight"] * (GAIN / math.sqrt(9 * x.shape[1]))
            x = F.conv2d(x, weight, padding=1) if layer % 2 else blurred(enlarged(x, weight))
        x = x + part["apply_noise.noise"] * part["apply_noise.weight"][:, None, None]
        x = F.leaky_relu(x + part["bias"][:, None, None], 0.2)
        x = (x - x.mean(dim=(2, 3), keepdim=True)) / x.std(dim=(2, 3), correction=0, keepdim=True)
        style = w @ part["style.weight"].T / math.sqrt(w.shape[1]) + part["style.bias"]
        scale, shift = style[:, :, None, None].chunk(2, dim=1)
        x = x * (scale + 1) + shift
    last = f"synthesis.output{layer // 2}"
    return F.conv2d(x, file[f"{last}.weight"] / math.sqrt(x.shape[1]), file[f"{last}.bias"])


@torch.no_grad()
@pytest.mark.parametrize("resolution", [16, 128])
def test_stylegan1(resolution):
    file = stylegan1_file(resolution)
    config, state = read_genforce(file)
    assert config == StyleGAN1Config(resolution, resolution * 4, 4, 6, 6, num_mapping_layers=2)
    generator = loaded(config, state)
    z = torch.randn(2, 6, generator=torch.Generator().manual_seed(1))
    w = generator.mapping(z)
    expected = stylegan1_picture(file, z, resolution)
    actual = generator.synthesis(generator.broadcast(w))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1


@torch.no_grad()
def test_pggan():
    shapes = {"lod": ()}
    for layer in range(6):
        inputs, size = (5, 4) if layer == 0 else (4, 3)
        shapes[f"layer{layer}.weight"] = (4, inputs, size, size)
        shapes[f"layer{layer}.bias"] = (4,)
    for block in range(3):
        shapes[f"output{block}.weight"] = (3, 4, 1, 1)
        shapes[f"output{block}.bias"] = (3,)
    file = draw(shapes)
    config, state = read_genforce(file)
    assert config == PGGANConfig(16, 64, 4, 5)
    # In double precision: the order in which a float32 convolution sums differs between
    # processors, by more than 1e-5 for some z. What is left is the rounding of weights on import.
    generator, file = loaded(config, state).double(), {k: v.double() for k, v in file.items()}
    z = torch.randn(2, 5, generator=torch.Generator().manual_seed(1)).double()

    def normalised(x: Tensor) -> Tensor:
        return x / (x.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()

    x = z[:, :, None, None]
    for layer in range(6):
        weight, bias = file[f"layer{layer}.weight"], file[f"layer{layer}.bias"]
        weight = weight * (GAIN / math.sqrt(weight[0].numel()))
        x = normalised(x)
        if layer in (2, 4):
            x = F.interpolate(x, scale_factor=2)
        x = F.leaky_relu(F.conv2d(x, weight, bias, padding=1 if layer else 3), 0.2)
    expected = F.conv2d(normalised(x), file["output2.weight"] / 2, file["output2.bias"])
    actual = generator.synthesis(generator.broadcast(generator.mapping(z)))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)


def biggan_file(config: BigGANConfig) -> dict[str, Tensor]:
    """huggingface's names for the weights of a network of ours, with spectral norms of 2."""
    torch.manual_seed(0)
    theirs = {}
    attention = 8
    for key, value in build_generator(config).state_dict().items():
        key = key.replace("mapping.embeddings", "embeddings").replace("synthesis.", "generator.")
        value = torch.randn(value.shape) * 0.3 if value.is_floating_point() else value
        if "running_var" in key:
            value = value.abs() + 0.5
        if key.startswith("generator.blocks."):
            number = int(key.split(".")[2])
            number += number >= attention
            key = ".".join(["generator.layers", str(number), *key.split(".")[3:]])
        key = key.replace("generator.attention.", f"generator.layers.{attention}.")
        for name in ("theta", "phi", "g", "o_conv"):
            key = key.replace(
                f"layers.{attention}.{name}.", f"layers.{attention}.snconv1x1_{name}."
            )
        if "num_batches" in key:
            continue
        if "running" in key:
            theirs[f"{key}s"] = torch.stack([torch.zeros_like(value), value])
        elif key.endswith("weight") and value.ndim > 1 and "embeddings" not in key:
            theirs |= with_spectral_norm(key, value)
        else:
            theirs[key] = value
    return theirs


def with_spectral_norm(key: str, value: Tensor) -> dict[str, Tensor]:
    u, s, v = torch.linalg.svd(value.flatten(1), full_matrices=False)
    return {
        f"{key}_orig": value * (2 / s[0]),
        f"{key}_u": u[:, 0],
        f"{key}_v": v[0],
    }


@torch.no_grad()
def test_biggan():
    config = BigGANConfig(4, (4, 4, 2, 2, 2, 1), z_dim=3, class_dim=5, num_classes=7)
    file = biggan_file(config)
    found, state = read_biggan(file)
    assert found == config
    generator, z = loaded(found, state), torch.randn(2, 3)
    classes = torch.tensor([1, 6])

    def weight(name: str) -> Tensor:
        value = file[f"generator.{name}.weight_orig"]
        return value / torch.linalg.matrix_norm(value.flatten(1), ord=2)

    def conv(x: Tensor, name: str) -> Tensor:
        kernel, bias = weight(name), file.get(f"generator.{name}.bias")
        return F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var = (file[f"generator.{name}.running_{k}s"][-1] for k in ("mean", "var"))
        x = (x - mean[:, None, None]) / (var + 1e-4).sqrt()[:, None, None]
        scale, offset = (latents @ weight(f"{name}.{k}").T for k in ("scale", "offset"))
        return F.relu(x * (1 + scale)[:, :, None, None] + offset[:, :, None, None])

    latents = torch.cat([z, file["embeddings.weight"].T[classes]], dim=1)
    x = latents @ weight("gen_z").T + file["generator.gen_z.bias"]
    x = x.reshape(2, 4, 4, -1).permute(0, 3, 1, 2)
    block = 0
    for number in range(11):
        name = f"layers.{number}"
        if number == 8:
            x = attended(x, conv, file["generator.layers.8.gamma"])
            continue
        inner = conv(norm(x, f"{name}.bn_0"), f"{name}.conv_0")
        inner, up = norm(inner, f"{name}.bn_1"), block % 2 == 1
        inner = F.interpolate(inner, scale_factor=2) if up else inner
        inner = conv(norm(conv(inner, f"{name}.conv_1"), f"{name}.bn_2"), f"{name}.conv_2")
        inner = conv(norm(inner, f"{name}.bn_3"), f"{name}.conv_3")
        x = F.interpolate(x, scale_factor=2) if up else x
        x, block = inner + x[:, : inner.shape[1]], block + 1
    mean, var = (file[f"generator.bn.running_{k}s"][-1] for k in ("mean", "var"))
    x = F.batch_norm(x, mean, var, file["generator.bn.weight"], file["generator.bn.bias"], eps=1e-4)
    expected = conv(F.relu(x), "conv_to_rgb").tanh()
    actual = generator.synthesis(generator.broadcast(generator.mapping(z, classes_N=classes)))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def attended(x: Tensor, conv, gamma: Tensor) -> Tensor:
    queries, keys, values = (conv(x, f"layers.8.snconv1x1_{k}") for k in ("theta", "phi", "g"))
    keys, values = F.max_pool2d(keys, 2).flatten(2), F.max_pool2d(values, 2).flatten(2)
    weights = torch.einsum("ncq,nck->nqk", queries.flatten(2), keys).softmax(dim=2)
    out = torch.einsum("nqk,nck->ncq", weights, values).reshape(len(x), -1, *x.shape[2:])
    return x + gamma * conv(out, "layers.8.snconv1x1_o_conv")


@pytest.mark.parametrize("kind", ["stylegan1", "pggan"])
def test_they_become_packs_that_wplus_works_with(tmp_path: Path, kind: str):
    config = {
        "stylegan1": StyleGAN1Config(16, 64, 4, 6, 6, 2),
        "pggan": PGGANConfig(16, 64, 4, 5),
    }[kind]
    file = tmp_path / "net.pth"
    if kind == "stylegan1":
        torch.save({"generator_smooth": stylegan1_file(16)}, file)
    else:
        state = build_generator(config).state_dict()
        names = {k: k.removeprefix("synthesis.").replace("output.", "output2.") for k in state}
        torch.save({"generator": {names[k]: v for k, v in state.items()}}, file)
    import_pack([ImportFile(file)], tmp_path / "pack", half=False)
    pack = load_pack(tmp_path / "pack")
    assert pack.generator_config == config
    inverter = pack.inverter("wplus")
    faces = torch.rand(1, 3, 16, 16) * 2 - 1
    inversion = inverter.encode(faces)
    assert inverter.render(inversion, inversion.unedited).shape == faces.shape
