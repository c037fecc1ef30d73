"""Edits of clips with transparency: colours change, alpha does not; its loss is said first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.demo import make_clip as make_face_clip
from pipelines.edit import run
from pipelines.edit_request import EditRequest
from pipelines.meter import Progress
from vidinv.packs import load_pack
from vidinv.types import EditSpec, Frame
from vidinv.video import EncodeOptions, open_reader, open_writer

NUM_FRAMES = 3
SPEC = EditSpec({"smile": ((0.0, 1.5),)})


class Told(Progress):
    """Remembers what is said, and which passes begin, in order."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def track(self, items: Iterable[Any], *, label: str, total: int | None) -> Iterator[Any]:
        self.lines.append(label)
        return iter(items)


@pytest.fixture(scope="module")
def overlay(tmp_path_factory) -> Path:
    """ProRes 4444 of a generated face that fades out downwards."""
    folder = tmp_path_factory.mktemp("overlay")
    clip = make_face_clip(load_pack(), folder / "face.mp4", seconds=0.2)
    with open_reader(clip) as reader:
        frames, info = list(reader)[:NUM_FRAMES], replace(reader.info, has_alpha=True)
    alpha = np.repeat(np.linspace(255, 0, info.height)[:, None], info.width, 1).astype(np.uint8)
    options = EncodeOptions(encoder="prores_ks")
    with open_writer(folder / "overlay.mov", source=info, options=options) as writer:
        for frame in frames:
            writer.write(replace(frame, alpha=alpha))
    return folder / "overlay.mov"


def frames_of(path: Path) -> list[Frame]:
    with open_reader(path) as reader:
        return list(reader)


def edited(overlay: Path, output: Path) -> tuple[list[str], tuple[str, ...]]:
    """What was said on the way, and at the end."""
    told = Told()
    request = EditRequest(overlay, output, load_pack(), SPEC, device="cpu", identity=False)
    result = run(request, progress=told)
    assert result.faces_edited == NUM_FRAMES
    return told.lines, result.warnings


def test_mov_keeps_alpha(overlay, tmp_path):
    lines, warnings = edited(overlay, tmp_path / "out.mov")
    assert lines == ["analyse", "edit"]
    assert not any("transparen" in text for text in warnings)
    before, after = frames_of(overlay), frames_of(tmp_path / "out.mov")
    assert len(after) == NUM_FRAMES
    for one, other in zip(before, after, strict=True):
        assert one.alpha.min() < 1000
        np.testing.assert_array_equal(one.alpha, other.alpha)
        change = np.abs(one.image.astype(int) - other.image) / 257
        assert change[150:362, 150:362].mean() > 1


def test_the_loss_is_said_before_the_work(overlay, tmp_path):
    lines, warnings = edited(overlay, tmp_path / "out.mp4")
    assert "transparency, which out.mp4" in lines[0]
    assert lines[1:] == ["analyse", "edit"]
    assert len([text for text in warnings if "transparency" in text]) == 1
