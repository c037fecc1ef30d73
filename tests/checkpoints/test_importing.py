"""``packs import`` and ``export``: small files in every public layout, made here, become packs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from vidinv.checkpoints.directions import DirectionOptions
from vidinv.checkpoints.errors import CheckpointError
from vidinv.checkpoints.importing import ImportFile, import_pack
from vidinv.checkpoints.rosinality import generator_to_rosinality
from vidinv.cli import main
from vidinv.errors import UnknownNameError, UsageError
from vidinv.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from vidinv.generators.stylegan3 import StyleGAN3Config, StyleGAN3Generator
from vidinv.inversion.fse_published import PublishedConfig, PublishedEncoder
from vidinv.inversion.hyper import HyperInverter
from vidinv.inversion.hyper_networks import HyperConfig, HyperInverterNetworks
from vidinv.inversion.psp_encoder import PspConfig, PspEncoder
from vidinv.networks.bisenet import BiSeNet
from vidinv.networks.iresnet import IResNet
from vidinv.networks.irse import ArcFace
from vidinv.packs import load_pack

# All rows of a StyleGAN2 at 8 px and a width that public files of directions have.
CONFIG = StyleGAN2Config(8, channel_base=64, channel_max=8, z_dim=6, w_dim=512)
LATENTS = (1, CONFIG.num_ws, CONFIG.w_dim)


def make_generator(config: StyleGAN2Config = CONFIG) -> StyleGAN2Generator:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(config).eval().requires_grad_(False)
    torch.nn.init.normal_(generator.mapping.w_avg)
    for name, value in generator.named_parameters():
        if name.endswith(("noise_strength", "bias")):
            torch.nn.init.normal_(value, mean=float("affine" in name), std=0.1)
    return generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def generator() -> StyleGAN2Generator:
    return make_generator()


@pytest.fixture(scope="module")
def rosinality(folder, generator) -> Path:
    state, latent_avg = generator_to_rosinality(generator.state_dict())
    path = folder / "rosinality.pt"
    torch.save({"g_ema": state, "latent_avg": latent_avg}, path)
    return path


def imported(folder: Path, *paths: Path, **how):
    name = f"pack{len(list(folder.iterdir()))}"
    import_pack([ImportFile(path) for path in paths], folder / name, **how)
    return load_pack(folder / name)


def assert_same_pictures(generator, pack, *, atol: float = 1e-5) -> None:
    latents = torch.randn(2, generator.num_ws, generator.w_dim)
    with torch.inference_mode():
        expected, actual = (g.synthesis(latents) for g in (generator, pack.generator))
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def test_rosinality_s_layout(folder, generator, rosinality):
    pack = imported(folder, rosinality, half=False)
    assert_same_pictures(generator, pack)
    assert torch.equal(pack.generator.mapping.w_avg, generator.mapping.w_avg)
    assert pack.meta["imported"] == [
        {
            "file": "rosinality.pt",
            "bytes": rosinality.stat().st_size,
            "sha256": hashlib.sha256(rosinality.read_bytes()).hexdigest(),
            "layout": "rosinality's StyleGAN2",
        }
    ]
    assert pack.files.problems() == []


def test_float16_halves_the_pack_and_keeps_what_it_cannot_hold(folder, generator, rosinality):
    own = {name: value.clone() for name, value in generator.state_dict().items()}
    state, latent_avg = generator_to_rosinality(own)
    state["conv1.conv.weight"][0, 0, 0, 0, 0] = 1e6
    path = folder / "large.pt"
    torch.save({"g_ema": state, "latent_avg": latent_avg}, path)
    half, full = imported(folder, path), imported(folder, path, half=False)
    sizes = [pack.files.meta["files"]["generator.safetensors"]["bytes"] for pack in (half, full)]
    assert sizes[0] < 0.7 * sizes[1]
    assert half.generator.synthesis.b4.conv1.weight.max() == 1e6


def test_a_mean_that_is_missing_is_that_of_samples(folder, generator):
    state, _ = generator_to_rosinality(generator.state_dict())
    torch.save({"g_ema": state}, folder / "no_mean.pt")
    pack = imported(folder, folder / "no_mean.pt")
    z = torch.randn(2000, CONFIG.z_dim, generator=torch.Generator().manual_seed(1))
    expected = generator.mapping(z).mean(dim=0)
    spread = generator.mapping(z).std(dim=0).mean()
    assert (pack.generator.mapping.w_avg - expected).abs().mean() < 0.1 * spread


def test_export_is_what_import_reads(folder, rosinality, capsys):
    pack = imported(folder, rosinality, half=False)
    path = folder / "exported.pt"
    assert main(["packs", "export", str(pack.folder), "-o", str(path)]) == 0
    exported, original = (torch.load(p, weights_only=True) for p in (path, rosinality))
    assert exported["g_ema"].keys() == original["g_ema"].keys()
    for key, value in original["g_ema"].items():
        assert torch.equal(exported["g_ema"][key], value)
    assert torch.equal(exported["latent_avg"], original["latent_avg"])


def test_other_families_have_no_such_layout(folder, capsys):
    config = StyleGAN3Config(16, channel_base=128, channel_max=8, z_dim=6, w_dim=8)
    torch.save(StyleGAN3Generator(config).state_dict(), folder / "sg3.pt")
    pack = imported(folder, folder / "sg3.pt")
    assert pack.generator_config == config
    assert main(["packs", "export", str(pack.folder), "-o", str(folder / "sg3_out.pt")]) == 2
    assert "layout is one of StyleGAN2" in capsys.readouterr().err
    assert not (folder / "sg3_out.pt").exists()


def genforce_stylegan2(generator: StyleGAN2Generator) -> dict[str, torch.Tensor]:
    """As genforce's names have it: kernels that enlarge are flipped, 1 is added at run time."""
    theirs = {"truncation.w_avg": generator.mapping.w_avg}
    theirs["synthesis.early_layer.const"] = generator.synthesis.b4.const[None]
    for key, value in generator.state_dict().items():
        if key.startswith("mapping.fc"):
            theirs[key.replace("fc", "dense")] = value
        if not key.startswith("synthesis.") or key.count(".") < 3 or "filter" in key:
            continue
        _, block, layer, part = key.split(".", 3)
        index = int(block[1:]).bit_length() - 3
        name = {"conv0": f"layer{2 * index - 1}", "conv1": f"layer{2 * index}"}.get(layer)
        name = name or f"output{index}"
        value = value.flip(2, 3) if (layer, part) == ("conv0", "weight") else value
        value = value - 1 if part == "affine.bias" else value
        value = value[None, None] if part == "noise_const" else value
        part = part.replace("affine", "style").replace("noise_const", "noise")
        theirs[f"synthesis.{name}.{part}"] = value
    return {**theirs, "synthesis.layer1.filter.kernel": torch.ones(1, 1, 4, 4)}


def test_genforce_s_stylegan2(folder, generator):
    path = folder / "genforce.pth"
    theirs = genforce_stylegan2(generator)
    torch.save({"generator": {}, "generator_smooth": theirs}, path)
    pack = imported(folder, path, half=False)
    assert_same_pictures(generator, pack)
    z = torch.randn(2, CONFIG.z_dim)
    assert torch.equal(pack.generator.mapping(z), generator.mapping(z))


def encoder_file(path: Path, generator, config: PspConfig, kind: str) -> PspEncoder:
    """pSp's container around the published sizes' layout."""
    torch.manual_seed(1)
    encoder = PspEncoder(config, generator.config).eval()
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items() if k != "latent_avg"}
    decoder, mean = generator_to_rosinality(generator.state_dict())
    state |= {f"decoder.{key}": value for key, value in decoder.items()}
    latent_avg = mean.expand(generator.num_ws, -1).clone()
    torch.save(
        {"state_dict": state, "opts": {"encoder_type": kind}, "latent_avg": latent_avg}, path
    )
    encoder.latent_avg.copy_(latent_avg)
    return encoder


@pytest.mark.slow  # networks of the published sizes
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("GradualStyleEncoder", PspConfig()),
        ("Encoder4Editing", PspConfig(rows="offsets")),
        ("BackboneEncoder", PspConfig(pyramid=False, steps=5)),
        ("ProgressiveBackboneEncoder", PspConfig(rows="offsets", pyramid=False, steps=5)),
    ],
)
def test_encoders_run_as_a_method(folder, generator, kind, config):
    path = folder / f"{kind}.pt"
    encoder = encoder_file(path, generator, config, kind)
    pack = imported(folder, path, half=False)
    assert_same_pictures(generator, pack)
    inverter = pack.inverter("psp")
    assert inverter.encoder.config == config
    faces = torch.rand(1, 3, 8, 8) * 2 - 1
    with torch.inference_mode():
        inversion = inverter.encode(faces)
        if config.steps == 1:
            expected = encoder(encoder.resize(faces)) + encoder.latent_avg
            torch.testing.assert_close(inversion.latents_NLD, expected)
        assert inverter.render(inversion, inversion.unedited).shape == (1, 3, 8, 8)


@pytest.fixture(scope="module")
def files_of_directions(folder) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    row = rng.standard_normal((1, 512))
    row /= np.linalg.norm(row)
    arrays = {
        "stylegan_ffhq_smile_w_boundary.npy": row,
        "stylegan_ffhq_age_boundary.npy": row,
        "flat.npy": np.tile(row, (1, CONFIG.num_ws)) / np.sqrt(CONFIG.num_ws),
        "yaw.npy": np.tile(0.9 * row, (CONFIG.num_ws, 1)),
    }
    for name, array in arrays.items():
        np.save(folder / name, array)
    torch.save(torch.from_numpy(row).float(), folder / "age.pt")
    torch.save(torch.from_numpy(row).float().expand(LATENTS).clone(), folder / "pose.pt")
    components = torch.from_numpy(rng.standard_normal((80, 1, 512))).float()
    pca = {"mean": torch.zeros(1, 512), "comp": components, "std": torch.full((80,), 2.0)}
    torch.save(pca, folder / "ffhq_pca.pt")
    return {path.name: path for path in folder.iterdir() if path.suffix in (".npy", ".pt")}


@pytest.mark.parametrize(
    ("file", "name", "space", "length"),
    [
        ("stylegan_ffhq_smile_w_boundary.npy", "smile", "w", 3.0),
        ("age.pt", "age", "w", 3.0),
        ("pose.pt", "pose", "w", 3.0),
        ("yaw.npy", "yaw", "w", 0.9),
        ("flat.npy", "flat", "w+", 15 / np.sqrt(CONFIG.num_ws)),
    ],
)
def test_directions_have_space_and_scale_of_their_source(
    folder, rosinality, files_of_directions, file, name, space, length
):
    pack = imported(folder, rosinality, files_of_directions[file], half=False)
    assert pack.meta["directions"]["entries"][name]["space"] == space
    rows = pack.directions()[name].vector_LD
    torch.testing.assert_close(rows.norm(dim=1), torch.full((CONFIG.num_ws,), float(length)))


def test_ganspace_s_edits_change_their_rows_alone(folder, rosinality, files_of_directions):
    big = make_generator(StyleGAN2Config(64, channel_base=256, channel_max=4, z_dim=4, w_dim=512))
    state, mean = generator_to_rosinality(big.state_dict())
    torch.save({"g_ema": state, "latent_avg": mean}, folder / "ten_rows.pt")
    path = files_of_directions["ffhq_pca.pt"]
    file = ImportFile(path, direction=DirectionOptions("nose_length"))
    import_pack([ImportFile(folder / "ten_rows.pt"), file], folder / "ganspace", half=False)
    rows = load_pack(folder / "ganspace").directions()["nose_length"].vector_LD
    components = torch.load(path, weights_only=True)["comp"]
    assert [index for index, row in enumerate(rows) if row.any()] == [4]
    torch.testing.assert_close(rows[4], components[51, 0] * 2.0 * -30)


def test_the_command_line_names_turns_and_limits_directions(
    folder, rosinality, files_of_directions, capsys
):
    path, output = files_of_directions["age.pt"], folder / "named"
    direction = f"younger={path},scale=-2,layers=1-2,positive=younger"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    arguments = [rosinality, "--direction", direction, "-o", output, "--fp32"]
    arguments += ["--sha256", f"age.pt={digest}", "--licence", "CC0-1.0"]
    assert main(["packs", "import", *map(str, arguments)]) == 0
    assert "age.pt: e4e (one row)" in capsys.readouterr().out
    pack = load_pack(output)
    found = pack.directions()["younger"]
    vector = torch.load(path, weights_only=True)
    torch.testing.assert_close(found.vector_LD[1:3], -2 * vector.expand(2, -1))
    assert not found.vector_LD[[0, 3]].any()
    assert (found.positive, pack.meta["licence"]) == ("younger", "CC0-1.0")
    assert main(["packs", "verify", str(output)]) == 0


def test_without_a_generator_the_base_pack_is_taken_along(folder, tmp_path):
    base = load_pack()
    path = tmp_path / "direction.npy"
    np.save(path, np.random.default_rng(0).standard_normal((1, base.generator.w_dim)))
    pack = imported(tmp_path, path)
    assert {*base.directions().names(), "direction"} == set(pack.directions().names())
    assert pack.alignment == base.alignment
    assert pack.methods == base.methods
    assert_same_pictures(base.generator, pack)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html><title>Google Drive - Quota exceeded", "is a web page"),
        (b"PK\x03\x04" + b"\0" * 50, "is cut off after 54 bytes"),
        (b"just words", "in no known format"),
        (b"\x93NUMPY" + b"\0" * 20, "is not an array"),
        (b"\x80\x04cposix\nsystem\n(X\x04\x00\x00\x00truetR.", "is refused: it asks for posix"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(tmp_path, capsys, content, words):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    assert main(["packs", "import", str(path), "-o", str(tmp_path / "pack")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert str(path) in line
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pt"]


class Calls:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_that_asks_for_more_is_refused(tmp_path, zipped):
    path, trap = tmp_path / "weights.pt", tmp_path / "executed"
    torch.save({"g_ema": Calls(trap)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"is refused: .*system") as caught:
        imported(tmp_path, path)
    assert "\n" not in str(caught.value)
    assert not trap.exists()


def test_what_does_not_fit_is_one_line_and_leaves_nothing(
    folder, rosinality, files_of_directions, tmp_path
):
    truncated = torch.load(rosinality, weights_only=True)
    del truncated["g_ema"]["conv1.conv.weight"]
    torch.save(truncated, tmp_path / "without.pt")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    for path, words in (
        (tmp_path / "without.pt", "conv1.conv.weight is missing"),
        (tmp_path / "other.pt", "has no layout that is known: it begins with weights"),
        (files_of_directions["stylegan_ffhq_age_boundary.npy"], "boundary in z"),
        (files_of_directions["age.pt"], r"a direction in w is \[256\], got \[512\]"),
    ):
        with pytest.raises(CheckpointError, match=words):
            import_pack([ImportFile(path)], tmp_path / "pack")
    with pytest.raises(CheckpointError, match="has the sha256"):
        import_pack([ImportFile(rosinality, "0" * 64)], tmp_path / "pack")
    assert {p.name for p in tmp_path.iterdir()} == {"without.pt", "other.pt"}
    with pytest.raises(UsageError, match="is there already"):
        import_pack([ImportFile(rosinality)], tmp_path)
    with pytest.raises(UsageError, match="leave out one of them"):
        import_pack([ImportFile(rosinality)], tmp_path / "pack", base="faces-128")


def test_every_option_is_checked(folder, rosinality, tmp_path, capsys):
    for arguments in (
        ["--direction", "smile"],
        ["--direction", "smile=a.pt,scale=x"],
        ["--direction", "smile=a.pt,size=1"],
        ["--sha256", "other.pt=00"],
        ["--alignment", "none"],
    ):
        output = ["-o", str(tmp_path / "pack")]
        assert main(["packs", "import", str(rosinality), *arguments, *output]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.slow  # networks of the published sizes
def test_hyperinverter_s_file_runs_as_a_method(folder, generator, rosinality, tmp_path):
    torch.manual_seed(2)
    weights = generator.synthesis.layer_weights()
    networks = HyperInverterNetworks(HyperConfig(hidden_width=8), generator.config, weights).eval()
    state = {**networks.state_dict(), "discriminator.b4.out.bias": torch.zeros(1)}
    torch.save({"state_dict": state, "opts": {"hidden_dim": 8}}, tmp_path / "hyper.pt")
    pack = imported(folder, rosinality, tmp_path / "hyper.pt", half=False)
    assert pack.meta["methods"]["hyper"]["config"]["hidden_width"] == 8
    faces = torch.rand(1, 3, 8, 8) * 2 - 1
    expected = HyperInverter(generator, networks.requires_grad_(False)).encode(faces)
    actual = pack.inverter("hyper").encode(faces)
    torch.testing.assert_close(actual.latents_NLD, expected.latents_NLD, rtol=0, atol=1e-4)
    for name, code in expected.codes.items():
        torch.testing.assert_close(actual.codes[name], code, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("role", "network"),
    [
        ("parsing", BiSeNet),
        pytest.param("recognition", ArcFace, marks=pytest.mark.slow),
        pytest.param("recognition", IResNet, marks=pytest.mark.slow),
    ],
)
def test_networks_come_back_as_they_were(tmp_path, role, network):
    original = network().eval()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    pack = imported(tmp_path, tmp_path / "weights.pth", half=False)
    found = pack.network(role)
    assert type(found) is network
    side = 64 if role == "parsing" else 112
    picture = torch.rand(1, 3, side, side) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(found(picture), original(picture), rtol=1e-4, atol=1e-5)
    with pytest.raises(UnknownNameError, match=f"there are: {role}"):
        pack.network("none")


def feature_style_file(path: Path, config: PublishedConfig, generator) -> PublishedEncoder:
    """As the public code saves it: bare weights, without the mean latent."""
    torch.manual_seed(3)
    encoder = PublishedEncoder(config, generator.config).eval().requires_grad_(False)
    state = {key: value for key, value in encoder.state_dict().items() if key != "latent_avg"}
    torch.save(state, path)
    return encoder


def test_the_feature_style_encoder_s_file_runs_as_fse(folder, tmp_path):
    """Narrow, for a small generator; the mean latent is that of a pSp file beside it."""
    config = PublishedConfig(widths=(4, 8, 8, 8), blocks=(2, 1, 2, 1))
    sizes = StyleGAN2Config(256, channel_base=256, channel_max=8, z_dim=6, w_dim=6)
    generator = make_generator(sizes)
    state, mean = generator_to_rosinality(generator.state_dict())
    torch.save({"g_ema": state, "latent_avg": mean}, tmp_path / "g.pt")
    encoder = feature_style_file(tmp_path / "143_enc.pth", config, generator)
    faces = torch.rand(1, 3, 256, 256) * 2 - 1

    alone = imported(folder, tmp_path / "g.pt", tmp_path / "143_enc.pth", half=False)
    assert alone.meta["methods"]["fse"]["config"]["blocks"] == [2, 1, 2, 1]
    inversion = alone.inverter("fse").encode(faces)
    with torch.inference_mode():
        rows, features = encoder(faces)
        torch.testing.assert_close(inversion.latents_NLD, rows + mean)
        lower = generator.synthesis.run(inversion.latents_NLD, stop=5)
        state = lower.replace_features(features)
        expected = generator.synthesis(inversion.latents_NLD, start=state)
    actual = alone.inverter("fse").render(inversion, inversion.unedited)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.slow  # pSp in full size
def test_the_feature_style_encoder_takes_the_mean_latent_of_a_psp_file(folder, tmp_path):
    sizes = StyleGAN2Config(256, channel_base=256, channel_max=8, z_dim=6, w_dim=6)
    generator = make_generator(sizes)
    psp = encoder_file(tmp_path / "psp.pt", generator, PspConfig(), "GradualStyleEncoder")
    config = PublishedConfig(widths=(4, 8, 8, 8), blocks=(1, 1, 1, 1))
    feature_style_file(tmp_path / "143_enc.pth", config, generator)
    pack = imported(folder, tmp_path / "psp.pt", tmp_path / "143_enc.pth", half=False)
    torch.testing.assert_close(pack.inverter("fse").encoder.latent_avg, psp.latent_avg)
    assert psp.latent_avg.std() > 0.1


@pytest.mark.slow  # 114 million numbers
def test_the_published_feature_style_encoder_has_its_sizes():
    sizes = StyleGAN2Config(1024)
    with torch.device("meta"):
        encoder = PublishedEncoder(PublishedConfig(), sizes)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert round(count / 1e6, 1) == 113.9  # METHODS: 80 M of them in the heads
    assert encoder.styles[17].weight.shape == (512, 8640)
