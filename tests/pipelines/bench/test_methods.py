"""Benchmarks of methods: figures are those of the method's pictures, what is absent is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.attributes import UNITS, AttributeReader
from pipelines.bench.editing import MAGNITUDES, measure_editing
from pipelines.bench.figures import (
    TILE_PX,
    EditingFigures,
    InversionFigures,
    bars,
    grey_difference,
    heat_map,
)
from pipelines.bench.inversion import measure_inversion
from pipelines.bench.methods import BenchRequest, chosen_methods
from pipelines.bench.table import Column, table_lines
from pipelines.still_faces import FaceFinder, as_batch
from tests.compose.made_up_change import mean_landmarks
from tests.faces.fake_backend import MeanLandmarks, fake_backend
from tests.inversion.toy import ToyInverter
from tests.packs.tiny import HYPER, write_tiny_pack
from vidinv.cli import build_parser, main
from vidinv.errors import UnknownNameError, UsageError
from vidinv.faces.aligned import AlignedFaces
from vidinv.inversion import METHODS
from vidinv.inversion.registry import MethodEntry
from vidinv.metrics import ms_ssim_batch, psnr_batch, ssim_batch
from vidinv.metrics.distribution import crowd_features, frechet_distance
from vidinv.packs import load_pack
from vidinv.sheets import CAPTION_PX
from vidinv.types import RenderMode
from vidinv.video import read_image, write_image

BACKEND = fake_backend()
FACES = 3


@pytest.fixture(scope="module")
def request_of(tmp_path_factory):
    """Pictures of made-up faces, one of a wall, a note, and a pack of two methods."""
    folder = tmp_path_factory.mktemp("bench")
    rng = np.random.default_rng(0)
    (folder / "faces").mkdir()
    for number in range(FACES):
        picture = rng.integers(40 * number, 256, (64, 64, 3), np.uint8)
        write_image(folder / "faces" / f"{number}.png", picture)
    write_image(folder / "faces" / "wall.png", np.full((64, 64, 3), 90, np.uint8))
    (folder / "faces" / "notes.txt").write_text("no picture")
    search = {
        "file": "none.safetensors",
        "config": {"steps": 1, "shared_steps": 0, "steps_from_previous": 1},
    }
    added = {"wplus": (search, {"none": torch.zeros(1)})}
    pack = load_pack(write_tiny_pack(folder / "tiny", hyper=HYPER, added=added))

    def make(**how) -> BenchRequest:
        how = {"methods": ["fse", "hyper"], "device": "cpu", **how}
        return BenchRequest([folder / "faces"], pack, **how)

    return make


@pytest.fixture(scope="module")
def sources(request_of):
    finder = FaceFinder(request_of().pack, BACKEND)
    (folder,) = request_of().inputs
    return as_batch([finder.face(folder / f"{number}.png") for number in range(FACES)])


def test_inversion_figures_are_those_of_the_method_s_pictures(request_of, sources, features):
    bench = measure_inversion(request_of(), backend=BACKEND)
    assert (bench.faces, bench.resolution) == (FACES, 32)
    assert [row["method"] for row in bench.rows] == ["fse", "hyper"]
    for row in bench.rows:
        inverter = request_of().pack.inverter(row["method"])
        inversion = inverter.encode(sources)
        made = inverter.render(inversion, inversion.unedited).clamp(-1, 1)
        assert row["l2"] == pytest.approx(float((made - sources).square().mean()), rel=1e-3)
        assert row["psnr"] == pytest.approx(float(psnr_batch(made, sources).mean()), rel=1e-3)
        expected = float(ms_ssim_batch(made, sources).mean())
        assert row["ms_ssim"] == pytest.approx(expected, abs=1e-3)
        assert -1 <= row["identity"] < 1
        assert row["fid"] > 0
        assert row["ms"] > 0
    head, titles, *rows = bench.lines()
    assert head == "3 faces at 32 px, pack tiny"
    assert titles.split()[:3] == ["method", "L2", "PSNR"]
    assert [line.split()[0] for line in rows[:2]] == ["fse", "hyper"]
    notes = "\n".join(bench.notes)
    for words in ("no face found in 1 files", "2 scales of 5", "EfficientNet-lite0", "raw cosine"):
        assert words in notes


def test_a_method_that_fits_does_so_a_file_at_a_time(request_of, monkeypatch):
    entry = MethodEntry("toy", "for tests", f"{ToyInverter.__module__}:ToyInverter")
    monkeypatch.setitem(METHODS, "toy", entry)
    monkeypatch.setattr(ToyInverter, "fits", [])
    bench = measure_inversion(request_of(methods=["toy"]), backend=BACKEND)
    assert ToyInverter.fits == [1] * FACES
    assert bench.rows[0]["psnr"] is not None


def test_figures_show_what_is_added_to_the_picture_of_the_latents(request_of, tmp_path):
    figures = InversionFigures(tmp_path / "figures")
    request = request_of(methods=["hyper", "wplus"], limit=1)
    measure_inversion(request, figures=figures, backend=BACKEND)
    names = [path.name for path in figures.written]
    assert names == ["hyper_faces.png", "hyper_difference.png", "hyper_residuals.png",
                     "wplus_faces.png"]  # fmt: skip
    assert all(read_image(path).std() > 0 for path in figures.written)


def test_one_method_is_compared_with_itself_set_otherwise(request_of, tmp_path):
    figures = InversionFigures(tmp_path)
    methods = ["wplus", "wplus:steps=2,learning_rate=0.5"]
    bench = measure_inversion(request_of(methods=methods), figures=figures, backend=BACKEND)
    one, two = bench.rows
    assert [one["method"], two["method"]] == methods
    assert abs(one["psnr"] - two["psnr"]) > 0.05
    assert "wplus_steps_2_learning_rate_0.5_faces.png" in {path.name for path in figures.written}


def test_heat_maps_are_blue_for_little_and_red_for_much():
    values = np.zeros((10, 10), np.float32)
    values[:, 5:] = 3.0
    blue, red = heat_map(values)[0, [0, -1]].astype(int)
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    bright, black = np.full((1, 2, 2, 3), 50, np.float32), np.zeros((1, 2, 2, 3), np.float32)
    assert grey_difference(bright, black) == pytest.approx(50, abs=0.1)


def test_bars_are_as_long_as_their_values():
    picture = bars({"b4.conv1": 2.0, "b4.torgb": 1.0})
    rows = (picture[20 + 9], picture[20 + 18 + 9])
    long, short = ((row[120:] != 255).any(1)[:550].sum() for row in rows)
    assert 1.8 < long / short < 2.3


def test_every_unit_is_read_where_the_pack_can_measure_smiles(request_of):
    faces = AlignedFaces(mean_landmarks(128), BACKEND)
    read = AttributeReader(faces, request_of().pack)(np.full((2, 32, 32, 3), 90, np.float32))
    assert {*read, "smile"} == {*UNITS}
    assert all(values.shape == (2,) and np.isfinite(values).all() for values in read.values())


class Mouth(MeanLandmarks):
    """The mouth stands open as far as the picture is bright."""

    def predict(self, image, box):
        points = super().predict(image, box)
        points[65:68, 1] += image.mean() / 10
        return points


def test_attributes_without_a_measure_have_identity_alone(request_of):
    bench = measure_editing(request_of(), attributes=["smile", "age"], backend=BACKEND)
    assert len(bench.rows) == 2 * len(MAGNITUDES) * 2
    assert all(row["change"] is None and -1 <= row["identity"] <= 1 for row in bench.rows)
    assert "no measure for: smile, age" in bench.notes
    assert bench.as_dict()["units"] == {}


def test_changes_have_the_sign_of_what_moved(request_of):
    """A direction that brightens pictures, named for what the made-up landmarks read of it."""
    backend = replace(BACKEND, landmarks=Mouth())
    request = brightening(request_of(methods=["fse"]))
    bench = measure_editing(
        request, attributes=["mouth_open"], magnitudes=[-0.2, 0.2], backend=backend
    )
    less, more = (row["change"] for row in bench.rows)
    assert less * more < 0
    assert [*bench.as_dict()["units"]] == ["mouth_open"]
    assert any(line.split() == ["mouth_open", "+0.2", f"{more:.3f}"] for line in bench.lines())
    identity = next(row["identity"] for row in bench.rows)
    assert any(line.split()[2:] == [f"{identity:.3f}"] for line in bench.lines() if " -0.2" in line)


def test_the_fid_of_edits_is_that_of_all_edited_pictures(request_of, sources, features):
    request = brightening(request_of(methods=["fse"]))
    bench = measure_editing(request, attributes=["mouth_open"], magnitudes=[-1, 1], backend=BACKEND)
    inverter, directions = request.pack.inverter("fse"), request.pack.directions()
    inversion = inverter.encode(sources)
    edited = []
    for strength in (-1.0, 1.0):
        strengths = {"mouth_open": torch.full([FACES], strength)}
        latents = directions.apply(inversion.latents_NLD, strengths)
        edited.append(inverter.render(inversion, latents, mode=RenderMode.PASTE))
    expected = frechet_distance(crowd_features(edited), crowd_features([sources]))
    assert expected > 0
    assert bench.crowd["fse"]["fid"] == pytest.approx(expected, rel=0.02)
    assert bench.as_dict()["crowd"]["fse"]["kid"] is not None
    assert f"{bench.crowd['fse']['fid']:.2f}" in "\n".join(bench.lines())
    assert any("EfficientNet-lite0" in note for note in bench.notes)


def test_edited_pictures_are_compared_with_their_sources(request_of, sources):
    """PSNR and SSIM of all edits, on what an 8-bit picture has."""
    request = brightening(request_of(methods=["fse"]))
    bench = measure_editing(request, attributes=["mouth_open"], magnitudes=[-1, 1], backend=BACKEND)
    inverter, directions = request.pack.inverter("fse"), request.pack.directions()
    inversion, psnr, ssim = inverter.encode(sources), [], []
    for strength in (-1.0, 1.0):
        strengths = {"mouth_open": torch.full([FACES], strength)}
        latents = directions.apply(inversion.latents_NLD, strengths)
        edited = inverter.render(inversion, latents, mode=RenderMode.PASTE).clamp(-1, 1)
        psnr.append(psnr_batch(edited, sources))
        ssim.append(ssim_batch(edited, sources))
    found = bench.crowd["fse"]
    assert found["psnr"] == pytest.approx(float(torch.cat(psnr).mean()), abs=0.05)
    assert found["ssim"] == pytest.approx(float(torch.cat(ssim).mean()), abs=0.005)
    assert f"{found['psnr']:.2f}" in "\n".join(bench.lines())


def test_figures_of_edits_show_them_with_the_method_s_codes_and_without(request_of, tmp_path):
    figures = EditingFigures(tmp_path / "figures", 2.0)
    request = brightening(request_of(methods=["fse"]))
    measure_editing(
        request, attributes=["mouth_open"], magnitudes=[2], figures=figures, backend=BACKEND
    )
    assert [path.name for path in figures.written] == ["fse_edits.png"]
    picture = read_image(figures.written[0])
    assert picture.shape == (FACES * (TILE_PX + CAPTION_PX), 5 * TILE_PX, 3)
    source, plain, full, plain_edited, edited = np.split(picture[CAPTION_PX:TILE_PX], 5, axis=1)
    for one, other in [(source, plain), (plain, full), (plain, plain_edited), (full, edited)]:
        assert np.abs(one.astype(int) - other).mean() > 0.5


def brightening(request: BenchRequest) -> BenchRequest:
    """The request with a pack whose only direction is ``mouth_open``."""
    folder = request.pack.folder.parent / "mouth"
    entries = {"smile": {"space": "w", "positive": "wider", "strength_range": [-2, 2]}}
    meta = {"file": "directions.safetensors", "entries": {"mouth_open": entries["smile"]}}
    vector = {"mouth_open": torch.full([8], 0.1)}
    pack = load_pack(write_tiny_pack(folder, directions=meta, vectors=vector))
    return replace(request, pack=pack)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": ["fsee"]}, UnknownNameError, "there are: fse"),
        ({"methods": ["fse:rule=eq1"]}, UnknownNameError, "edit_rule"),
        ({"methods": ["fse:edit_rule"]}, UsageError, "NAME:OPTION=VALUE"),
        ({"limit": 0}, UsageError, "limit must be 1"),
        ({"frames_per_clip": 0}, UsageError, "frames per clip must be 1"),
    ],
)
def test_what_makes_no_sense_is_refused(request_of, changes, error, message):
    for measure in (measure_inversion, measure_editing):
        with pytest.raises(error, match=message):
            measure(request_of(**changes), backend=BACKEND)


def test_an_unknown_attribute_is_refused(request_of):
    with pytest.raises(UnknownNameError, match="there are: smile"):
        measure_editing(request_of(), attributes=["smilee"], backend=BACKEND)


def test_missing_inputs_and_faces_are_named(request_of, tmp_path):
    request = replace(request_of(), inputs=[tmp_path / "absent"])
    with pytest.raises(UsageError, match="absent: no such file or folder"):
        measure_inversion(request, backend=BACKEND)
    with pytest.raises(UsageError, match="no face found in"):
        measure_inversion(replace(request, inputs=[tmp_path]), backend=BACKEND)


def test_tables_are_aligned_and_dashes_stand_for_what_is_absent():
    columns = (Column("name", "method"), Column("a", "A", 2), Column("b", "Bbbbb", 1))
    rows = [{"name": "x", "a": 1.0, "b": None}, {"name": "longer", "a": 22.5, "b": 3}]
    assert table_lines(columns, rows) == [
        "method      A  Bbbbb",
        "x        1.00      -",
        "longer  22.50    3.0",
    ]


def test_the_command_line_takes_them(request_of, tmp_path, capsys):
    """Up to the search for faces: these pictures show none to dlib."""
    request = request_of()
    for command in (["inversion"], ["editing", "--magnitudes=-1,1", "--attr", "smile"]):
        arguments = ["bench", *command, request.inputs[0], "--pack", request.pack.folder, "--json"]
        assert main([str(argument) for argument in arguments]) == 2
        assert "no face found" in capsys.readouterr().err
    options = build_parser().parse_args(["bench", "editing", "x", "--magnitudes=-1.5,2"])
    assert options.magnitudes == (-1.5, 2.0)
    with pytest.raises(SystemExit):
        build_parser().parse_args(["bench", "editing", "x", "--magnitudes=big"])
    assert "no list of numbers" in capsys.readouterr().err


def test_what_is_fitted_to_every_track_is_measured_when_it_is_named(tmp_path):
    pack = load_pack(write_tiny_pack(tmp_path / "pack"))
    assert "pti" in pack.methods
    methods, notes = chosen_methods(BenchRequest([], pack))
    assert "pti" not in methods
    assert {"fse", "wplus"} <= set(methods)
    assert notes == ["not measured, since slow (--method NAME): pti"]
    assert chosen_methods(BenchRequest([], pack, methods=["pti"])) == (["pti"], [])
