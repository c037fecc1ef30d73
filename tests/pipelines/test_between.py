"""``interpolate`` and ``mix`` from file to file: what is written, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.between import PairRequest, run_interpolation, run_mix
from tests.faces.fake_backend import fake_backend
from tests.inversion.toy import ToyInverter
from tests.packs.tiny import HYPER, write_tiny_pack
from vidinv.cli import main
from vidinv.errors import UsageError
from vidinv.inversion import METHODS
from vidinv.inversion.registry import MethodEntry
from vidinv.packs import load_pack
from vidinv.provenance import CredentialOptions, credentials, read_credentials
from vidinv.video import EncodeOptions, open_reader, probe, read_image, write_image
from vidinv.video.describing import comment_of, describe

BACKEND = fake_backend()
SIDE = 32  # of the tiny pack's pictures


@pytest.fixture(scope="module")
def request_of(tmp_path_factory):
    """Two pictures, a pack of both methods, and where results go."""
    folder = tmp_path_factory.mktemp("pair")
    rng = np.random.default_rng(0)
    for name, first, last in (("a", 0, 100), ("b", 100, 256)):
        write_image(folder / f"{name}.png", rng.integers(first, last, (96, 96, 3), np.uint8))
    write_image(folder / "wall.png", np.full((96, 96, 3), 90, np.uint8))
    pack = load_pack(write_tiny_pack(folder / "tiny", hyper=HYPER))

    def make(output: str, **how) -> PairRequest:
        how = {"overwrite": True, "device": "cpu", **how}
        return PairRequest(folder / "a.png", folder / "b.png", folder / output, pack, **how)

    return make


def between(request: PairRequest) -> np.ndarray:
    """``[steps, 32, 32, 3]`` of the clip that is written."""
    run_interpolation(request, backend=BACKEND)
    with open_reader(request.output) as reader:
        return np.stack([frame.image for frame in reader]).astype(np.float32)


def test_a_clip_goes_from_the_first_inversion_to_the_second(request_of):
    request = request_of("way.mkv", steps=5, rate=10, encode=EncodeOptions(encoder="ffv1"))
    result = run_interpolation(request, backend=BACKEND)
    assert result["frames"] == 5
    assert result["interpolated"] == ["latents", "feature code, as F - G^K(w)"]
    info = probe(request.output)
    assert (info.width, info.height, float(info.average_rate)) == (SIDE, SIDE, 10)
    frames = between(request)
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    whole = np.abs(frames[-1] - frames[0]).mean()
    assert len(frames) == 5
    assert steps.max() < 0.6 * whole  # no step is most of the way
    turned = between(replace(request, first=request.second, second=request.first))
    assert np.abs(turned[::-1] - frames).max() <= 1  # but for rounding


def test_what_a_method_has_besides_latents_can_be_left_out(request_of):
    for method, code in (("fse", "feature code"), ("hyper", "residual of the layer's weight")):
        request = request_of("way.mp4", method=method, steps=2)
        result = run_interpolation(request, backend=BACKEND)
        assert any(what.startswith(code) for what in result["interpolated"])
        only = replace(request, codes=False)
        assert run_interpolation(only, backend=BACKEND)["interpolated"] == ["latents"]
        assert np.abs(between(request) - between(only)).mean() > 1


def test_phase_two_of_hyper_can_be_left_out_for_a_run(request_of):
    request = request_of("way.mp4", method="hyper", steps=2)
    pack = request.pack.with_options("hyper", {"phase_two": "false"})
    result = run_interpolation(replace(request, pack=pack), backend=BACKEND)
    assert result["interpolated"] == ["latents"]


def test_aligned_pictures_are_taken_whole(request_of):
    """The made-up face lies in the middle of the picture: the whole is another crop."""
    mixed = []
    for aligned in (False, True):
        request = request_of("mix.png", aligned=aligned)
        run_mix(request, backend=BACKEND)
        mixed.append(read_image(request.output).astype(float))
    assert np.abs(mixed[0] - mixed[1]).mean() > 0.1


def test_a_picture_s_name_gives_a_sheet(request_of):
    request = request_of("way.png", steps=3, size_px=40)
    run_interpolation(request, backend=BACKEND)
    assert read_image(request.output).shape[1] == 3 * 40
    assert ": interpolation; method fse; pack tiny)" in (comment_of(describe(request.output)) or "")


def test_what_is_fitted_is_interpolated(request_of, monkeypatch):
    entry = MethodEntry("toy", "for tests", f"{ToyInverter.__module__}:ToyInverter")
    monkeypatch.setitem(METHODS, "toy", entry)
    request = request_of("toy.mp4", method="toy", steps=3)
    result = run_interpolation(request, backend=BACKEND)
    assert result["interpolated"] == ["latents", "x - the fitted mean face", "fitted state"]
    first, middle, last = between(request)
    assert np.abs(middle - (first + last) / 2).mean() < 4


def test_a_mix_is_neither_of_the_two(request_of):
    request = request_of("mix.png")
    run_mix(request, backend=BACKEND)
    mixed = read_image(request.output)
    assert mixed.shape == (SIDE, SIDE, 3)
    run_mix(replace(request, sheet=True, size_px=SIDE), backend=BACKEND)
    tiles = np.split(read_image(request.output)[20:], 4, axis=1)
    assert np.array_equal(tiles[1], mixed)
    for number in (0, 2, 3):
        assert np.abs(tiles[number].astype(float) - mixed).mean() > 1


@pytest.mark.parametrize(
    ("run", "output", "changes", "message"),
    [
        (run_mix, "mix.png", {"method": "hyper"}, "needs a feature code"),
        (run_mix, "mix.mp4", {}, "a mix is a picture"),
        (run_interpolation, "way.mp4", {"steps": 1}, "--steps must be 2"),
        (run_interpolation, "way.mp4", {"size_px": 5}, "--size must be"),
        (run_interpolation, "way.mp4", {"rate": 0}, "--rate must be"),
        (run_interpolation, "a.png", {"overwrite": False}, "is the input itself"),
        (run_interpolation, "wall.png", {"overwrite": False}, "exists: give another output"),
        (run_interpolation, "way.doc", {}, r"\.doc"),
        (run_interpolation, "way.mp4", {"method": "fsee"}, "there are: fse"),
    ],
)
def test_what_makes_no_sense_is_refused(request_of, run, output, changes, message):
    with pytest.raises(UsageError, match=message):
        run(request_of(output, **changes), backend=BACKEND)


def test_a_picture_without_a_face_is_named(request_of):
    request = request_of("way.mp4")
    request = replace(request, second=request.first.with_name("wall.png"))
    with pytest.raises(UsageError, match=r"no face found in .*wall\.png"):
        run_interpolation(request, backend=BACKEND)


@pytest.mark.parametrize("command", ["interpolate", "mix"])
def test_the_command_line_takes_them(request_of, capsys, command):
    """Up to the search for faces, which has dlib's networks here: the picture shows none."""
    request = request_of("out.png")
    arguments = [command, request.first, request.second, "-o", request.output]
    arguments += ["--pack", request.pack.folder, "--size", 64, "--overwrite", "--json"]
    assert main([str(argument) for argument in arguments]) == 2
    assert f"no face found in {request.first}" in capsys.readouterr().err
    arguments += ["--method-option", "phase_two=false"]
    assert main([str(argument) for argument in arguments]) == 2
    assert "option of method fse 'phase_two'" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["mix.png", "way.png", "way.mp4"])
def test_what_the_generator_made_is_signed_where_that_is_wanted(
    request_of, tmp_path, monkeypatch, output
):
    if not credentials.is_installed():
        pytest.skip("needs c2pa-python: pip install -e '.[credentials]'")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(credentials.SWITCH, "on")
    request = request_of(output)
    run = run_mix if output == "mix.png" else run_interpolation
    made = replace(request, steps=None if output == "mix.png" else 3)
    assert run(made, backend=BACKEND)["warnings"] == []
    found = read_credentials(request.output)
    assert found["validation_state"] == "Valid"
    active = found["manifests"][found["active_manifest"]]
    sources = [(source["title"], source["relationship"]) for source in active["ingredients"]]
    assert sorted(sources) == [("a.png", "inputTo"), ("b.png", "inputTo")]
    (actions,) = (a["data"]["actions"] for a in active["assertions"] if "actions" in a["label"])
    (action,) = actions
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    unsigned = replace(made, credentials=CredentialOptions(enabled=False))
    run(unsigned, backend=BACKEND)
    assert read_credentials(request.output) is None
