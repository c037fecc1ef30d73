"""Random access gives the same pictures as reading in order."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.video.clips import images_of, make_clip
from vidinv.errors import DecodeError, MissingDependencyError
from vidinv.video import FrameSampler

# decord's swscale conversion is 1.2 levels darker than the reader's.
LEVELS = 3.0


@pytest.fixture
def _decord():
    pytest.importorskip("decord", reason="needs decord: pip install -e '.[train]'")


@pytest.mark.usefixtures("_decord")
@pytest.mark.parametrize("rotation", [0, 90])
def test_frames_by_number(tmp_path, rotation):
    path = make_clip(tmp_path / "a.mp4", num_frames=20, rotation=rotation)
    expected = images_of(path)
    with FrameSampler(path) as sampler:
        assert len(sampler) == 20
        batch = sampler.batch([17, 3])
        one = sampler[5]
    for image, number in [(batch[0], 17), (batch[1], 3), (one, 5)]:
        assert np.abs(image.astype(float) - expected[number]).mean() < LEVELS
        assert np.abs(image.astype(float) - expected[(number + 8) % 20]).mean() > LEVELS


@pytest.mark.usefixtures("_decord")
def test_number_outside_fails(tmp_path):
    sampler = FrameSampler(make_clip(tmp_path / "a.mp4", num_frames=3))
    with pytest.raises(IndexError, match="no frame 3; there are 3"):
        sampler[3]


@pytest.mark.usefixtures("_decord")
def test_bad_file_fails(tmp_path):
    with pytest.raises(DecodeError, match="no such file"):
        len(FrameSampler(tmp_path / "a.mp4"))
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(DecodeError) as error:
        len(FrameSampler(tmp_path / "a.mp4"))
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("_decord")
def test_damaged_pictures_fail(tmp_path):
    path = make_clip(tmp_path / "a.mp4", num_frames=20)
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat") + 4
    data[at : at + len(data) // 2] = b"\xff" * (len(data) // 2)
    path.write_bytes(data)
    with FrameSampler(path) as sampler, pytest.raises(DecodeError, match=r"a\.mp4: "):
        sampler.batch(range(len(sampler)))


def test_without_decord_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[train\]'"):
        len(FrameSampler(tmp_path / "a.mp4"))
