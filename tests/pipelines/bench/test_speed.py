"""The speed benchmark does the same work both ways and says what bounds it."""

from __future__ import annotations

import pytest
import torch

from pipelines.bench.speed import (
    FullPassInverter,
    NetworksReport,
    SpeedReport,
    measure,
    measure_networks,
)
from vidinv.cli import main
from vidinv.packs import load_pack
from vidinv.types import EditedLatents


def test_the_baseline_computes_the_same_pictures():
    pack = load_pack()
    inverter = pack.inverter()
    faces = torch.rand(2, 3, 64, 64) * 2 - 1
    eager = FullPassInverter.build(pack.parts("fse"))
    a, b = inverter.encode(faces), eager.encode(faces)
    assert torch.equal(a.latents_NLD, b.latents_NLD)
    shifted = EditedLatents(a.latents_NLD + 0.1)
    assert torch.equal(inverter.render(a, shifted), eager.render(b, shifted))


def test_measure_reports_both_and_every_stage():
    report = measure(load_pack(), seconds=0.8)
    assert report.frames == 20
    assert set(report.stage_ms) == {"analyse", "decode", "invert and render", "compose", "encode"}
    assert report.ratio == pytest.approx(report.pipeline_fps / report.baseline_fps)
    assert min(report.baseline_fps, report.pipeline_fps, *report.stage_ms.values()) > 0


def test_lines_name_the_slowest_stage():
    report = SpeedReport(10, 5.0, 15.0, {"compose": 30.0, "encode": 10.0})
    assert report.lines()[-1] == "bound by compose: 75% of the work"
    assert "3.00 x baseline" in report.lines()[2]


def test_networks_are_timed_alone_against_an_encoder_pass_and_three_full_ones(capsys):
    report = NetworksReport(encode_ms=10.0, pass_ms=30.0, edit_ms=40.0)
    assert report.share == pytest.approx(0.4)
    assert main(["bench", "speed", "--networks"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed[:2]] == ["encoder", "generator"]
    assert printed[3].endswith("of an encoder pass and three generator passes")
    assert main(["bench", "speed", "--networks", "clip.mp4"]) == 2
    assert "give no clip" in capsys.readouterr().err


def test_an_edit_at_layer_k_costs_less_than_full_passes():
    """The default pack's own edit has two passes to layer K more, for its feature editor."""
    pack = load_pack().with_options("fse", {"edit_rule": "eq1"})
    report = measure_networks(pack)
    assert report.edit_ms < report.encode_ms + 3 * report.pass_ms
