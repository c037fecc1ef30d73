"""The loop by itself: accumulation, want of memory, loaders, what a run says, a rehearsal."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.runs import LOOP, losses, parameters
from training.batches import StepBatches
from training.compute import Compute
from training.judged import JudgedTask
from training.loop import Loop, LoopConfig
from training.rehearsal import rehearse
from training.run_log import RunLog, RunningLine, duration
from vidinv.errors import UsageError

TINY = replace(LOOP, decay_images=1, checkpoint_images=10_000)


class MeanColour(JudgedTask):
    """Learns the mean colour of the faces; every face counts by itself, and nothing is random.

    Args:
        dies_at: numbers of the calls of ``step`` that run out of memory, after half of their work.
        dies_late: those that do after their first optimisation.
    """

    averaged = ("colour",)

    def __init__(
        self, config: LoopConfig, dies_at: tuple[int, ...] = (), dies_late: tuple[int, ...] = ()
    ) -> None:
        super().__init__(config, resolution=32)
        self.colour = nn.Linear(1, 3, bias=False)
        nn.init.zeros_(self.colour.weight)
        self.modules["colour"] = self.colour
        self.optimizers["colour"] = torch.optim.Adam(self.colour.parameters(), lr=0.01)
        self.networks, self.calls, self.dies_at, self.dies_late = {}, 0, dies_at, dies_late
        self.sizes: list[int] = []

    def step(self, batch, number, average):
        self.calls += 1
        self.sizes.append(len(batch.images))
        colour = self.colour(torch.ones(1, 1))
        loss = (batch.images.mean(dim=(2, 3)) - colour).square().mean()
        if self.calls in self.dies_at:
            loss.backward()
            raise torch.OutOfMemoryError("no more of it")
        self._optimise("colour", loss, average)
        if self.calls in self.dies_late:
            raise torch.OutOfMemoryError("no more of it")
        # A regulariser has a step of its own, as StyleGAN's have.
        self._optimise("colour", -0.1 * self.colour(torch.ones(1, 1)).mean(), average)
        return {"loss": loss}

    def forward(self, modules, batch):
        """No batch norm."""

    def evaluate(self, ema, batch):
        return {"colour": float(ema["colour"].weight.detach().mean())}, [batch.images[:16]]


def run(faces, folder, config: LoopConfig = TINY, **how) -> Loop:
    folder.mkdir()
    loop = Loop(MeanColour(config, **how), faces, config, folder)
    loop.run()
    return loop


def test_gradients_of_several_batches_are_those_of_one(faces, tmp_path):
    whole = run(faces, tmp_path / "whole")
    parts = run(faces, tmp_path / "parts", replace(TINY, batch=2, accumulate=4))
    assert set(whole.task.sizes) == {8}
    assert set(parts.task.sizes) == {2}
    torch.testing.assert_close(parameters(parts), parameters(whole), rtol=1e-5, atol=1e-6)
    ours, theirs = (
        [line["loss"] for line in losses(loop.folder) if "loss" in line] for loop in (parts, whole)
    )
    assert ours == pytest.approx(theirs, abs=2e-5)
    assert len(ours) == 2


def test_out_of_memory_halves_the_batch_and_keeps_the_step(faces, tmp_path, capsys):
    whole = run(faces, tmp_path / "whole")
    halved = run(faces, tmp_path / "halved", dies_at=(3, 5))
    assert halved.task.sizes == [8, 8, 8, 4, 4, *[2] * 24]
    torch.testing.assert_close(parameters(halved), parameters(whole), rtol=1e-5, atol=1e-6)
    notes = [line for line in losses(halved.folder) if "note" in line]
    assert notes == [
        {"note": "out of memory: batch 4 instead of 8, accumulate 2", "images": 16},
        {"note": "out of memory: batch 2 instead of 4, accumulate 4", "images": 16},
    ]
    assert [n["note"] for n in notes] == [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("out of")
    ]
    again = Loop(MeanColour(TINY), faces, replace(TINY, total_images=80), halved.folder)
    assert again.resume()
    again.run()
    assert again.task.sizes == [2] * 8


def test_a_batch_that_cannot_be_halved_is_said(faces, tmp_path):
    with pytest.raises(UsageError, match="a batch of 1 cannot be halved"):
        run(faces, tmp_path / "one", replace(TINY, batch=1), dies_at=(1,))


def test_no_step_is_applied_twice_where_memory_ends_after_weights_changed(faces, tmp_path):
    config = replace(TINY, checkpoint_images=16)
    whole = run(faces, tmp_path / "whole", config)
    with pytest.raises(UsageError, match=r"\(batch 8\): lower loop\.batch .* --resume"):
        run(faces, tmp_path / "ended", config, dies_late=(4,))
    lower = replace(config, batch=4, accumulate=2)
    again = Loop(MeanColour(lower), faces, lower, tmp_path / "ended")
    assert again.resume()
    assert again.images_seen == 16
    again.run()
    torch.testing.assert_close(parameters(again), parameters(whole), rtol=1e-5, atol=1e-6)


def test_loaders_change_nothing(faces, tmp_path):
    alone = run(faces, tmp_path / "alone")
    helped = run(faces, tmp_path / "helped", replace(TINY, loaders=2))
    assert torch.equal(parameters(alone), parameters(helped))
    assert losses(alone.folder) == losses(helped.folder)


def test_the_batch_of_a_step_is_that_of_its_number(faces):
    first, other = (StepBatches(faces, LOOP, rank) for rank in (0, 1))
    batches = list(first.iterate(range(3, 6), Compute().device))
    assert torch.equal(batches[2].images, first[5].images)
    assert not torch.equal(first[5].images, first[4].images)
    assert not torch.equal(first[5].images, other[5].images)


def test_the_table_has_a_row_for_every_number_of_images(tmp_path):
    log = RunLog(tmp_path)
    log.begin({"networks": {}, "start": "random weights"})
    for line in (
        {"pixel": 0.5, "images": 8},
        {"pixel": 0.4, "adversarial": 0.1, "images": 16},
        {"val": {"psnr": 20.0}, "images": 16},
        {"note": "out of memory", "images": 24},
        {"pixel": 0.3, "images": 24},
    ):
        log.append(line)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "log.csv").read_text())))
    assert [row["images"] for row in rows] == ["8", "16", "24"]
    assert rows[1] == {"images": "16", "pixel": "0.4", "adversarial": "0.1", "val_psnr": "20.0"}
    assert rows[0]["val_psnr"] == ""
    log.forget_after(16)
    assert (tmp_path / "log.csv").read_text().splitlines()[1:] == ["8,0.5,,", "16,0.4,0.1,20.0"]


def test_a_resumed_log_has_no_note_twice_and_no_line_that_was_cut_short(tmp_path):
    log = RunLog(tmp_path)
    log.begin({"networks": {}, "start": "random weights"})
    log.append({"note": "out of memory", "images": 8})
    log.append({"pixel": 0.5, "images": 16})
    kept = log.path.read_text()
    log.append({"note": "out of memory again", "images": 16})  # in the step after the checkpoint
    with log.path.open("a") as file:
        file.write('{"pixel": 0.4, "im')
    again = RunLog(tmp_path)
    again.forget_after(16)
    assert log.path.read_text() == kept
    again.append({"pixel": 0.3, "images": 24})
    table = (tmp_path / "log.csv").read_text().splitlines()
    assert table == ["images,pixel", "8,", "16,0.5", "24,0.3"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_running_line_says_speed_time_left_and_sheet():
    now, screen, file = [100.0], Terminal(), io.StringIO()
    lines = [RunningLine(4000, stream=s, seconds=lambda: now[0]) for s in (screen, file)]
    for line in lines:
        line.start(1000)
        line.sheet = "runs/a/sheet_00001000.png"
    for images in (1010, 1020, 1030):
        now[0] += 0.5
        for line in lines:
            line.show(images, logged=images == 1030)
    expected = "1030 of 4000 images, 20.0 images/s, 2 min left, sheet: runs/a/sheet_00001000.png"
    assert file.getvalue() == f"{expected}\n"
    shown = screen.getvalue().split("\r\x1b[K")
    assert len(shown) == 3  # not more than one a second, but for a line of the log
    assert shown[-1] == expected


def test_trainers_run_where_only_torch_is():
    absent = "av", "decord", "dlib", "_dlib_pybind11", "lpips", "ray", "torchvision"
    code = f"import sys, training.start; print(*set({absent!r}) & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_durations_read_as_people_say_them():
    assert [duration(s) for s in (40, 90, 7500, 3599)] == [
        "40 s",
        "2 min",
        "2 h 05 min",
        "1 h 00 min",
    ]


def test_a_rehearsal_says_what_a_run_takes_and_writes_nothing(faces, tmp_path):
    config = replace(LOOP, batch=4, accumulate=2, workers=3)
    task = MeanColour(config)
    said = "\n".join(rehearse(task, faces, config, tmp_path / "runs"))
    assert task.sizes == [4] * 6
    assert "parameters: colour 0.00 M" in said
    assert "560 faces to learn from, 80 held out" in said
    assert "step: 24 images (3 workers, batch 4, accumulate 2) on cpu" in said
    assert "images/s" in said
    assert "one with all that acts now and then: " in said
    assert "GB a worker" in said
    assert f"first sheet: {tmp_path / 'runs'}/sheet_00000048.png" in said
    assert not list(tmp_path.iterdir())


def test_a_rehearsal_that_needs_less_memory_says_so_and_writes_nothing(faces, tmp_path, capsys):
    task = MeanColour(LOOP, dies_at=(1,))
    said = "\n".join(rehearse(task, faces, LOOP, tmp_path / "runs"))
    assert "step: 8 images (1 workers, batch 4, accumulate 2)" in said
    assert "out of memory: batch 4 instead of 8, accumulate 2" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_sheet_is_where_the_line_says(faces, tmp_path, capsys):
    loop = run(faces, tmp_path / "seen", replace(TINY, checkpoint_images=32))
    said = capsys.readouterr().err.splitlines()
    assert said[-1].endswith(f"sheet: {loop.folder}/sheet_00000032.png")
    assert (loop.folder / "sheet_00000032.png").is_file()
    rows = list(csv.DictReader(io.StringIO((loop.folder / "log.csv").read_text())))
    assert {"loss", "val_colour", "images_per_second"} <= rows[0].keys()
    logged = [json.loads(line) for line in loop.log.path.read_text().splitlines()]
    assert float(rows[-1]["val_colour"]) == logged[-1]["val"]["colour"]
    assert np.isfinite([float(row["val_colour"]) for row in rows if row["val_colour"]]).all()
