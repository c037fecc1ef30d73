"""Fitting directions into a copy of a pack, and looking at them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.directions.fit import FitRequest, fit, sample_latents, style_weights
from pipelines.directions.preview import PreviewRequest, preview
from tests.faces.fake_backend import MeanLandmarks, fake_backend
from tests.generators.test_registry import SMALL
from tests.packs.tiny import write_tiny_pack
from vidinv.cli import main
from vidinv.editing.fitting import separate
from vidinv.errors import UnknownNameError, UsageError
from vidinv.generators.registry import build_generator
from vidinv.packs import load_pack
from vidinv.video import read_image, write_image


class Mouth(MeanLandmarks):
    """The mouth stands open as far as the picture is bright, the nose as far as it is red."""

    def predict(self, image, box):
        points = super().predict(image, box)
        points[65:68, 1] += image.mean() / 10
        if image.ndim == 3:
            points[30, 0] += image[..., 0].mean() / 10
        return points


BACKEND = replace(fake_backend(), landmarks=Mouth())


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return load_pack(write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny"))


def brightness(pack, w: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        latents = pack.generator.broadcast(torch.from_numpy(w).float())
        return pack.generator.synthesis(latents).clamp(-1, 1).mean((1, 2, 3)).double().numpy()


def test_interfacegan_finds_what_changes_the_measure(pack, tmp_path):
    request = FitRequest(
        pack, "interfacegan", tmp_path / "new", ["mouth_open"], num_samples=240, share=0.3
    )
    (line,) = fit(request, backend=BACKEND)
    assert line.startswith("interfacegan_mouth_open\t+ more of what mouth_open measures\tunit ")
    assert "of held-out samples on the right side" in line
    new = load_pack(tmp_path / "new")
    assert new.name == "new"
    assert new.files.problems() == []
    assert new.directions().names() == ["age", "interfacegan_mouth_open", "smile"]
    vector = new.directions()["interfacegan_mouth_open"].vector_LD[0].double().numpy()
    w = sample_latents(pack, 240, 0)
    expected = separate(w, brightness(pack, w), share=0.3)
    assert vector @ expected.normal / np.linalg.norm(vector) > 0.9
    unit = vector / np.linalg.norm(vector)
    assert np.linalg.norm(vector) == pytest.approx((w @ unit).std(), rel=1e-2)
    old = pack.directions()["smile"].vector_LD
    assert torch.equal(new.directions()["smile"].vector_LD, old)


def test_given_attributes_are_held(pack, tmp_path):
    request = FitRequest(
        pack, "interfacegan", tmp_path / "new", ["mouth_open"], ["yaw"], num_samples=200, share=0.3
    )
    fit(request, backend=BACKEND)
    other = replace(request, output=tmp_path / "yaw", attributes=["yaw"], given=[])
    fit(other, backend=BACKEND)
    held, yaw = (
        load_pack(tmp_path / name).directions()[f"interfacegan_{attribute}"].vector_LD[0]
        for name, attribute in (("new", "mouth_open"), ("yaw", "yaw"))
    )
    assert float(held @ yaw / held.norm() / yaw.norm()) == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize("kind", ["sefa", "ganspace"])
def test_directions_without_labels_limited_to_rows(pack, tmp_path, kind):
    request = FitRequest(pack, kind, tmp_path / "new", count=2, num_samples=64, layers=(2, 5))
    assert len(fit(request)) == 2
    directions = load_pack(tmp_path / "new").directions()
    for number in range(2):
        vector = directions[f"{kind}_{number}"].vector_LD
        changed = vector.abs().sum(dim=1) > 0
        assert changed.nonzero().flatten().tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize("kind", ["stylegan1", "stylegan2", "stylegan3"])
def test_sefa_reads_the_style_weights_of_the_convolutions_that_read_the_rows(kind):
    generator = build_generator(SMALL[kind])
    whole = style_weights(generator, None)
    assert len(whole) >= len(SMALL[kind].style_channels) // 2
    assert all(weight.shape[1] == SMALL[kind].w_dim for weight in whole)
    part = style_weights(generator, (2, 3))
    first = 1 if kind == "stylegan3" else 2
    assert all(np.array_equal(a, b) for a, b in zip(part, whole[first : first + 2], strict=True))


def test_sefa_needs_styles():
    with pytest.raises(UsageError, match="kind pggan lacks"):
        style_weights(build_generator(SMALL["pggan"]), None)
    with pytest.raises(UsageError, match="no convolution reads rows 0 to 0"):
        style_weights(build_generator(SMALL["stylegan3"]), (0, 0))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kind": "interfacegan"}, UsageError, "name the attributes"),
        ({"attributes": ["smile"]}, UsageError, "takes neither --attr"),
        ({"count": 0}, UsageError, "--count"),
        ({"layers": (3, 99)}, UsageError, "within 0-7"),
        ({"kind": "interfacegan", "attributes": ["age"]}, UnknownNameError, "there are: .*yaw"),
        ({"kind": "interfacegan", "attributes": ["yaw"], "given": ["yaw"]}, UsageError, "at once"),
        ({"kind": "interfacegan", "attributes": ["yaw"]}, UsageError, "take more samples"),
    ],
)
def test_what_makes_no_sense_is_refused_and_writes_nothing(pack, tmp_path, changes, error, message):
    request = FitRequest(pack, "sefa", tmp_path / "new", num_samples=20)
    with pytest.raises(error, match=message):
        fit(replace(request, **changes), backend=BACKEND)
    assert not any(tmp_path.iterdir())


def test_an_existing_pack_is_kept(pack):
    with pytest.raises(UsageError, match="exists"):
        fit(FitRequest(pack, "sefa", pack.folder))


def test_a_preview_has_a_column_a_strength_and_a_row_a_face(pack, tmp_path):
    request = PreviewRequest(pack, tmp_path / "sheets", ["smile"], num_faces=2)
    (path,) = preview(request)
    picture = read_image(path)
    assert picture.shape == (2 * (160 + 20), 5 * 160, 3)
    tiles = np.split(picture[20:180].astype(float), 5, axis=1)
    assert np.abs(tiles[0] - tiles[2]).mean() > 1
    assert len(preview(replace(request, names=()))) == 2


def test_a_preview_of_pictures_shows_their_inversions(pack, tmp_path):
    rng = np.random.default_rng(0)
    write_image(tmp_path / "a.png", rng.integers(0, 256, (96, 96, 3), np.uint8))
    request = PreviewRequest(pack, tmp_path / "sheets", ["age"], [tmp_path / "a.png"], device="cpu")
    (path,) = preview(request, backend=BACKEND)
    assert read_image(path).shape == (180, 800, 3)
    with pytest.raises(UnknownNameError, match="there are: age"):
        preview(replace(request, names=["agee"]))


def test_the_command_line_takes_them(pack, tmp_path, capsys):
    new = tmp_path / "new"
    command = ["directions", "fit", "sefa", "-o", new, "--pack", pack.folder, "--count", 1]
    assert main([str(part) for part in (*command, "--layers", "0-3", "--quiet")]) == 0
    assert capsys.readouterr().out.startswith("sefa_0\t+ eigenvector 0 of the styles\tunit ")
    command = ["directions", "preview", "-o", tmp_path / "sheets", "--pack", new]
    assert main([str(part) for part in (*command, "--attr", "sefa_0", "--faces", 1)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'sheets' / 'sefa_0.png'}\n"
    assert main(["directions", "list", "--pack", str(new)]) == 0
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("sefa_0")]
    assert line == "sefa_0\t+ eigenvector 0 of the styles\tnot checked; usual from -2 to 2"
    with pytest.raises(SystemExit):
        main(["directions", "fit", "sefa", "-o", "x", "--layers", "a-b"])
