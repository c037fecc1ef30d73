"""The doctor says what is there and what is not, and survives whatever is broken."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial

import pytest
import torch

from tests.packs.tiny import write_tiny_pack
from vidinv import doctor
from vidinv.doctor import Check, report
from vidinv.generators.ops import build
from vidinv.metrics.lpips import BACKBONES
from vidinv.packs import DEFAULT_PACK


def line(label: str, checks: Iterable[Check] | None = None) -> str:
    (found,) = [text for text in report(checks) if text.startswith(f"{label} ")]
    return found


def test_every_part_has_one_line():
    lines = report()
    labels = ["python", "hardware", "torch", "video", "opencv", "faces", "face-alignment", "lpips"]
    for label in [*labels, "decord", "ray", f"pack {DEFAULT_PACK}"]:
        assert sum(text.startswith(f"{label} ") for text in lines) == 1, label
    assert not any("\n" in text for text in lines)


def test_what_every_run_needs_is_sound_here():
    for label in (
        "python",
        "hardware",
        "torch",
        "video",
        "opencv",
        "faces",
        f"pack {DEFAULT_PACK}",
    ):
        assert "BROKEN" not in line(label)
    assert "libx264" in line("video")


def test_a_check_that_raises_is_a_finding():
    def explode() -> str:
        raise RuntimeError("first line\nsecond line")

    lines = report([Check("bomb", explode), Check("after", lambda: "fine")])
    assert lines == [
        f"{'bomb':<16}BROKEN: RuntimeError: first line second line",
        f"{'after':<16}fine",
    ]


def test_a_required_package_that_cannot_be_imported_is_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "BROKEN: ModuleNotFoundError" in line("opencv")


@pytest.mark.parametrize(
    ("package", "label", "target"),
    [("decord", "decord", ".[train]"), ("ray", "ray", "."), ("lpips", "lpips", ".[train]")],
)
def test_a_missing_optional_package_says_what_it_gives(monkeypatch, package, label, target):
    monkeypatch.setitem(sys.modules, package, None)
    text = line(label)
    assert "missing, would give" in text
    assert f"pip install -e '{target}' (in the checkout of vidinv)" in text


def test_lpips_needs_a_backbone(monkeypatch, tmp_path):
    pytest.importorskip("lpips", reason="extra train is not installed")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "without backbone" in line("lpips")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / BACKBONES["squeeze"].file).touch()
    assert line("lpips").endswith("with backbone squeeze")


def test_fan_without_weights_names_the_files(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert "would give FAN landmarks on a GPU" in line("face-alignment")


def test_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Fake GPU {index}")
    assert line("torch").endswith("Fake GPU 0")


def test_no_gpu_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "runs on the CPU" in line("torch")


def test_operators_for_gpus_are_not_asked_for_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert line("CUDA operators").endswith("not needed: no CUDA device")


def test_it_says_whether_operators_for_the_gpu_are_built(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
    monkeypatch.setenv("VIDINV_CACHE", str(tmp_path))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert "missing, would make generators faster: install nvcc (CUDA 13" in line("CUDA operators")
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.touch()
    assert f"will be built at the first use, with {nvcc}" in line("CUDA operators")
    library = build.library_path(["9.0"])
    library.parent.mkdir()
    library.touch()
    assert line("CUDA operators").endswith(f"built: {library}")
    monkeypatch.setenv("VIDINV_CUDA_OPS", "off")
    assert "switched off (VIDINV_CUDA_OPS)" in line("CUDA operators")


def test_nothing_is_said_of_parts_that_this_version_has_not():
    text = "\n".join(report())
    assert "not in this version" not in text


def test_an_encoder_that_ffmpeg_lacks_is_named():
    text = line("video", [Check("video", partial(doctor.video, ["libx264", "h266_dreams"]))])
    assert "encoders: libx264;" in text
    assert "lacks h266_dreams" in text


def test_a_damaged_pack_is_broken_and_the_others_are_not(monkeypatch, tmp_path):
    folder = write_tiny_pack(tmp_path / "bad")
    (folder / "fse.safetensors").write_bytes(b"")
    write_tiny_pack(tmp_path / "good")
    monkeypatch.setenv("VIDINV_PACKS", str(tmp_path))
    assert "BROKEN" in line("pack bad")
    assert "damaged" in line("pack bad")
    assert "verified; methods: fse, pti, wplus; attributes: age, smile" in line("pack good")


def test_a_pack_without_readable_description_is_broken(monkeypatch, tmp_path):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "pack.json").write_text("{")
    monkeypatch.setenv("VIDINV_PACKS", str(tmp_path))
    assert "BROKEN: PackError" in line("pack odd")


def test_no_pack_says_how_to_have_one():
    assert "VIDINV_PACKS" in line("packs", doctor.pack_checks(()))
