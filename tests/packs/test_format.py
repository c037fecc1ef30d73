"""The folder of a pack: written, read back, and every way in which it can be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.packs.tiny import write_tiny_pack
from vidinv.errors import PackError
from vidinv.packs import PackFiles, write_pack
from vidinv.packs.format import sha256


@pytest.fixture
def folder(tmp_path):
    return write_tiny_pack(tmp_path / "tiny")


def rewrite(folder: Path, **changes) -> None:
    path = folder / "pack.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_was_written_is_read_back(tmp_path):
    weights = {"a": torch.tensor([0.5, -1.25]), "b": torch.zeros(2, 3)}
    meta = json.loads((write_tiny_pack(tmp_path / "tiny") / "pack.json").read_text())
    write_pack(tmp_path / "mine", {**meta, "name": "mine"}, {"one.safetensors": weights})
    files = PackFiles.open(tmp_path / "mine")
    assert files.meta["name"] == "mine"
    assert list(files.meta["files"]) == ["one.safetensors"]
    read = files.tensors("one.safetensors")
    assert read.keys() == weights.keys()
    for key, value in weights.items():
        assert read[key].dtype == torch.float32
        assert torch.equal(read[key], value)


def test_a_sound_pack_has_no_problems(folder):
    assert PackFiles.open(folder).problems() == []


def test_a_readme_is_not_a_problem(folder):
    (folder / "README.md").write_text("how it was made")
    assert PackFiles.open(folder).problems() == []


def test_one_flipped_byte_is_found(folder):
    path = folder / "fse.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    files = PackFiles.open(folder)
    (problem,) = files.problems()
    assert str(path) in problem
    assert "sha256" in problem
    with pytest.raises(PackError, match="damaged or was changed"):
        files.tensors("fse.safetensors")


def test_a_truncated_file_is_found(folder):
    path = folder / "generator.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert "damaged" in PackFiles.open(folder).problems()[0]


def test_a_missing_file_is_found(folder):
    (folder / "directions.safetensors").unlink()
    (problem,) = PackFiles.open(folder).problems()
    assert problem.endswith("directions.safetensors is missing")


def test_a_file_that_is_not_listed_is_found(folder):
    (folder / "extra.bin").write_bytes(b"x")
    (problem,) = PackFiles.open(folder).problems()
    assert "extra.bin is not listed" in problem


@pytest.mark.parametrize("name", ["../outside.safetensors", "unlisted.safetensors"])
def test_only_listed_files_inside_the_folder_are_read(folder, name):
    files = PackFiles.open(folder)
    with pytest.raises(PackError, match="does not list"):
        files.tensors(name)


def test_a_listed_path_outside_the_folder_is_refused(folder):
    save_file({"a": torch.zeros(1)}, folder.parent / "outside.safetensors")
    rewrite(folder, files={"../outside.safetensors": {"bytes": 1, "sha256": ""}})
    with pytest.raises(PackError, match="does not list"):
        PackFiles.open(folder).check("../outside.safetensors")


def test_a_file_that_is_not_safetensors_is_an_error(folder):
    path = folder / "fse.safetensors"
    path.write_bytes(b"not tensors at all")

    rewrite(folder, files={"fse.safetensors": {"bytes": 18, "sha256": sha256(path)}})
    with pytest.raises(PackError, match="not a safetensors file"):
        PackFiles.open(folder).tensors("fse.safetensors")


def test_open_fails_without_pack_json(tmp_path):
    with pytest.raises(PackError, match=r"no pack\.json"):
        PackFiles.open(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "\udcff"])
def test_open_fails_for_json_that_cannot_be_read(tmp_path, text):
    (tmp_path / "pack.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(PackError, match="cannot be read"):
        PackFiles.open(tmp_path)


@pytest.mark.parametrize("content", [[], {"name": "x"}, {"format": 2}, {"format": "1"}])
def test_open_fails_for_another_format(tmp_path, content):
    (tmp_path / "pack.json").write_text(json.dumps(content))
    with pytest.raises(PackError, match=r"not supported \(expected 1\)"):
        PackFiles.open(tmp_path)


def test_open_fails_and_names_what_is_lacking(tmp_path):
    (tmp_path / "pack.json").write_text(json.dumps({"format": 1, "name": "x", "files": {}}))
    with pytest.raises(PackError, match="lacks: version, licence, generator"):
        PackFiles.open(tmp_path)
