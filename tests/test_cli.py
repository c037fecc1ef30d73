"""The command line contract: exit codes, one-line errors, JSON, listings."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.demo import make_clip
from tests.packs.tiny import write_tiny_pack
from tests.pipelines.passes import Passes
from vidinv.cli import build_parser, main, run_command
from vidinv.cli.clips import edit
from vidinv.packs import DEFAULT_PACK, load_pack
from vidinv.version import __version__
from vidinv.video import open_reader

ATTRIBUTES = [
    "age",
    "beard",
    "brows",
    "eyes_open",
    "gender",
    "mouth_open",
    "pitch",
    "smile",
    "yaw",
]
SEVERAL = "input output frames faces_edited frames_without_face tracks method pack attributes fps"
RESULT_KEYS = [
    *SEVERAL.split(),
    "frames_in_range",
    "frames_held",
    "seconds",
    "peak_rss_mb",
    "identity",
    "warnings",
]
FRAMES = 5


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def vidinv(capsys):
    """Run a command in this process."""

    def run(*arguments: object) -> Ran:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:  # argparse's own way out
            code = leaving.code
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def face_clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return make_clip(load_pack(), path, seconds=FRAMES / 25)


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), np.full((64, 64, 3), 127, np.uint8))
    return path


@pytest.fixture
def tiny(tmp_path) -> Path:
    return write_tiny_pack(tmp_path / "tiny")


def assert_one_line(text: str, *parts: str) -> None:
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("vidinv: ")
    for part in parts:
        assert part in lines[0]


def test_version(vidinv):
    assert vidinv("--version") == Ran(0, f"vidinv {__version__}\n", "")


def test_help_names_the_commands(vidinv):
    ran = vidinv("--help")
    assert ran.code == 0
    commands = "edit invert faces interpolate mix demo packs directions train bench doctor"
    for command in commands.split():
        assert command in ran.out


def test_edit_help_names_the_options_of_the_contract(vidinv):
    ran = vidinv("edit", "--help")
    assert ran.code == 0
    options = "--attr --method --pack --face --device --seed --no-detail --json --quiet --overwrite"
    for option in options.split():
        assert option in ran.out


BAD_STYLE = ["edit", "a.mp4", "-o", "b.mp4", "--preview", "p.mp4", "--preview-style", "over"]


@pytest.mark.parametrize(
    "arguments", [[], ["packs"], ["frobnicate"], ["edit"], ["edit", "a.mp4"], BAD_STYLE]
)
def test_wrong_usage_exits_2(vidinv, arguments):
    ran = vidinv(*arguments)
    assert ran.code == 2
    assert ran.err.startswith("usage: vidinv")


def test_edit_prints_the_json_of_the_contract(vidinv, face_clip, tmp_path):
    output = tmp_path / "out.mp4"
    ran = vidinv("edit", face_clip, "-o", output, "--attr", "smile=0:0,0.1:1", "--json", "--quiet")
    assert ran.code == 0
    assert ran.err == ""
    result = json.loads(ran.out)
    assert sorted(result) == sorted(RESULT_KEYS)
    assert result["input"] == str(face_clip)
    assert result["output"] == str(output)
    assert result["frames"] == result["faces_edited"] == FRAMES
    assert result["frames_without_face"] == 0
    assert result["tracks"] == [{"id": 0, "first": 0, "last": FRAMES - 1, "frames": FRAMES}]
    assert (result["method"], result["pack"]) == ("fse", DEFAULT_PACK)
    assert result["attributes"] == {"smile": [[0.0, 0.0], [0.1, 1.0]]}
    assert result["fps"] > 0
    assert result["seconds"] > 0
    assert result["peak_rss_mb"] > 100
    identity = ["ic_output", "ic_source", "similarity_mean", "similarity_min"]
    assert sorted(result["identity"]) == identity
    assert output.is_file()


def test_edit_changes_the_face_and_says_what_it_did(vidinv, face_clip, tmp_path):
    output = tmp_path / "out.mp4"
    ran = vidinv("edit", face_clip, "-o", output, "--attr", "yaw=1")
    assert ran.code == 0
    assert ran.out == ""
    assert f"{output}: {FRAMES} frames, {FRAMES} faces edited" in ran.err
    before, after = (last_frame(path) for path in (face_clip, output))
    assert np.abs(before - after).mean() > 1


def test_strength_0_gives_the_source_back(vidinv, face_clip, tmp_path):
    output = tmp_path / "out.mp4"
    ran = vidinv("edit", face_clip, "-o", output, "--attr", "smile=0", "--json")
    assert ran.code == 0
    assert np.array_equal(last_frame(face_clip), last_frame(output))
    assert json.loads(ran.out)["faces_edited"] == 0


def test_invert_pastes_the_inversion(vidinv, face_clip, tmp_path):
    output = tmp_path / "out.mp4"
    ran = vidinv("invert", face_clip, "-o", output, "--json", "--quiet")
    assert ran.code == 0
    result = json.loads(ran.out)
    assert result["attributes"] == {}
    assert result["faces_edited"] == FRAMES


def test_no_face_is_said_and_exits_0(vidinv, picture, tiny, tmp_path):
    output = tmp_path / "out.png"
    ran = vidinv("edit", picture, "-o", output, "--attr", "smile", "--pack", tiny)
    assert ran.code == 0
    assert f"vidinv: note: no face found in {picture}: copied unchanged" in ran.err
    assert output.read_bytes() == picture.read_bytes()


def test_a_strength_out_of_range_is_said(vidinv, picture, tiny, tmp_path):
    output = tmp_path / "out.png"
    ran = vidinv("edit", picture, "-o", output, "--attr", "smile=9", "--pack", tiny)
    assert ran.code == 0
    assert "smile=9 is outside the range -2..2" in ran.err


def test_an_unknown_attribute_exits_2_and_lists_the_nearest_first(vidinv, picture, tmp_path):
    output = tmp_path / "out.png"
    ran = vidinv("edit", picture, "-o", output, "--attr", "smiling")
    assert ran.code == 2
    assert_one_line(ran.err, "unknown attribute 'smiling'; there are: smile,", *ATTRIBUTES)
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to change"),
        (["--attr", "smile="], "is not a number"),
        (["--attr", "smile", "--attr", "smile=2"], "given twice"),
        (["--attr", "smile", "--pack", "nope"], "unknown pack 'nope'; there are: "),
        (["--attr", "smile", "--method", "fsee"], "there are: fse"),
        (["--attr", "smile", "--preview-style", "split"], "style split: give --preview PATH too"),
        (["--attr", "smile", "--face", "0,"], "face '0,' is not largest, all, numbers of"),
        (["--attr", "smile", "--face", "nobody.jpg"], "face 'nobody.jpg' is not largest, all,"),
        (["--attr", "smile", "--method-option", "eq1"], "--method-option eq1: give NAME=VALUE"),
        (["--attr", "smile", "--method-option", "edit_rul=eq1"], "there are: edit_rule,"),
    ],
)
def test_a_request_that_makes_no_sense_exits_2(vidinv, picture, tmp_path, arguments, message):
    output = tmp_path / "out.png"
    ran = vidinv("edit", picture, "-o", output, *arguments)
    assert ran.code == 2
    assert_one_line(ran.err, message)
    assert not output.exists()


def test_an_existing_output_exits_2_and_is_kept(vidinv, picture, tiny, tmp_path):
    output = tmp_path / "out.png"
    output.write_bytes(b"mine")
    ran = vidinv("edit", picture, "-o", output, "--attr", "smile", "--pack", tiny)
    assert ran.code == 2
    assert_one_line(ran.err, f"{output} exists", "--overwrite")
    assert output.read_bytes() == b"mine"


def test_overwrite_replaces_an_existing_output(vidinv, picture, tiny, tmp_path):
    output = tmp_path / "out.png"
    output.write_bytes(b"mine")
    ran = vidinv(
        "edit", picture, "-o", output, "--attr", "smile", "--pack", tiny, "--overwrite", "--quiet"
    )
    assert ran == Ran(0, "", "")
    assert output.read_bytes() == picture.read_bytes()


@pytest.mark.parametrize("how", ["same path", "link"])
def test_the_input_as_output_exits_2_whatever_its_name(vidinv, picture, tiny, tmp_path, how):
    output = picture
    if how == "link":
        output = tmp_path / "link.png"
        output.symlink_to(picture)
    before = picture.read_bytes()
    ran = vidinv("edit", picture, "-o", output, "--attr", "smile", "--pack", tiny, "--overwrite")
    assert ran.code == 2
    assert_one_line(ran.err, "is the input itself")
    assert picture.read_bytes() == before


def test_a_picture_does_not_become_a_video(vidinv, picture, tiny, tmp_path):
    ran = vidinv("edit", picture, "-o", tmp_path / "out.mp4", "--attr", "smile", "--pack", tiny)
    assert ran.code == 2
    assert_one_line(ran.err, "is a picture")


@pytest.mark.parametrize("name", ["absent.mp4", "absent.png"])
def test_a_missing_input_exits_1(vidinv, tiny, tmp_path, name):
    output = tmp_path / f"out{Path(name).suffix}"
    ran = vidinv("edit", tmp_path / name, "-o", output, "--attr", "smile", "--pack", tiny)
    assert ran.code == 1
    assert_one_line(ran.err, name)
    assert not output.exists()


@pytest.mark.parametrize("name", ["bad.mp4", "bad.png"])
def test_input_that_is_no_media_exits_1_without_traceback(vidinv, tiny, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"neither a video nor a picture" * 100)
    output = tmp_path / f"out{path.suffix}"
    ran = vidinv("edit", path, "-o", output, "--attr", "smile", "--pack", tiny, "--quiet")
    assert ran.code == 1
    assert_one_line(ran.err, name)
    assert leftovers(tmp_path) == {name, "tiny"}


def test_the_damaged_clip_exits_1_without_traceback(vidinv, shared_dir, tiny, tmp_path):
    source = shared_dir / "clips" / "corrupted.mp4"
    output = tmp_path / "out.mp4"
    ran = vidinv("edit", source, "-o", output, "--attr", "smile", "--pack", tiny, "--quiet")
    assert ran.code == 1
    assert_one_line(ran.err, "corrupted.mp4")
    assert leftovers(tmp_path) == {"tiny"}


def test_debug_shows_the_traceback(vidinv, tiny, tmp_path):
    arguments = ["edit", tmp_path / "absent.mp4", "-o", tmp_path / "o.mp4", "--attr", "smile"]
    with pytest.raises(OSError, match=r"absent\.mp4"):
        vidinv(*arguments, "--pack", tiny, "--debug")


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_an_interrupt_exits_130(face_clip, tiny, tmp_path, capsys, number):
    arguments = ["edit", face_clip, "-o", tmp_path / "o.mp4", "--attr", "smile", "--pack", tiny]
    options = build_parser().parse_args([str(argument) for argument in arguments])
    passes = Passes(interrupted="analyse", after=2, signalled=number)
    options.command = partial(edit, progress=passes)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert run_command(options) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert_one_line(capsys.readouterr().err, "interrupted")
    assert leftovers(tmp_path) == {"tiny"}


def test_packs_list(vidinv, tiny, monkeypatch):
    monkeypatch.setenv("VIDINV_PACKS", str(tiny.parent))
    ran = vidinv("packs", "list")
    assert ran.code == 0
    names = [line.split("\t")[0] for line in ran.out.splitlines()]
    assert names == [DEFAULT_PACK, "tiny"]


def test_packs_show(vidinv, tiny):
    ran = vidinv("packs", "show", tiny)
    assert ran.code == 0
    assert json.loads(ran.out) == json.loads((tiny / "pack.json").read_text())


def test_packs_verify(vidinv):
    ran = vidinv("packs", "verify")
    assert ran.code == 0
    assert ran.out.startswith(f"{DEFAULT_PACK}: ")


def test_packs_verify_finds_a_tampered_copy(vidinv, tmp_path):
    copy = shutil.copytree(load_pack().folder, tmp_path / "copy")
    weights = copy / "directions.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 0xFF
    weights.write_bytes(data)
    ran = vidinv("packs", "verify", copy)
    assert ran.code == 1
    assert_one_line(ran.err, str(weights), "sha256")


def test_packs_show_fails_for_an_unknown_name(vidinv):
    ran = vidinv("packs", "show", f"{DEFAULT_PACK}0")
    assert ran.code == 2
    assert_one_line(ran.err, f"unknown pack '{DEFAULT_PACK}0'; there are: {DEFAULT_PACK}")


def test_directions_list_has_the_attributes_of_the_contract(vidinv):
    ran = vidinv("directions", "list")
    assert ran.code == 0
    rows = [line.split("\t") for line in ran.out.splitlines()]
    assert [row[0] for row in rows] == ATTRIBUTES
    assert all(row[1].startswith("+ ") and row[2].startswith("natural from") for row in rows)


def test_doctor(vidinv):
    ran = vidinv("doctor")
    assert ran.code == 0
    assert f"pack {DEFAULT_PACK}" in ran.out


def test_the_module_runs_as_a_program():
    program = [sys.executable, "-m", "vidinv", "edit", "absent.mp4", "-o", "o.mp4", "--attr", "x"]
    ran = subprocess.run(program, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert_one_line(ran.stderr, "unknown attribute 'x'")


def last_frame(path: Path) -> np.ndarray:
    """The last picture as float32."""
    with open_reader(path) as reader:
        return [frame.image for frame in reader][-1].astype(np.float32)


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
