"""Packs of other things than faces: every frame is edited in the pack's square."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PillowImage

import vidinv
from tests.packs.tiny import write_tiny_pack
from tests.video.clips import images_of, write_clip
from vidinv.cli import main
from vidinv.errors import UnknownNameError, UsageError
from vidinv.faces import crop_scale_of, named_alignment, whole_alignment
from vidinv.packs import load_pack
from vidinv.video import EncodeOptions

SIZE = (96, 64)  # no face in them
EXACT = EncodeOptions(encoder="ffv1")


def scenes() -> list[np.ndarray]:
    """Two shots of one colour: noise of light, then other noise, brighter."""
    rng = np.random.default_rng(0)
    light = (rng.integers(low, low + 80, (64, 96, 1)) for low in (30, 140))
    first, second = ((picture + np.array([20, 0, -20])).astype(np.uint8) for picture in light)
    return [first] * 6 + [second] * 5


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "church.mkv", scenes(), encoder="ffv1")


def pack_with(folder, alignment):
    return load_pack(write_tiny_pack(folder / "pack", alignment=alignment))


@pytest.mark.parametrize(
    ("alignment", "columns", "rows"),
    [
        ("frame", slice(16, 80), slice(0, 64)),
        ("letterbox", slice(0, 96), slice(0, 64)),
        ("crop:8,16,40", slice(8, 48), slice(16, 56)),
    ],
)
@pytest.mark.parametrize("work", [vidinv.edit, vidinv.invert])
def test_frames_are_edited_in_the_packs_square(tmp_path, clip, work, alignment, columns, rows):
    how = {"attributes": {"smile": 2.0}, "detail": False} if work is vidinv.edit else {}
    pack = pack_with(tmp_path, alignment)
    result = work(clip, tmp_path / "out.mkv", pack=pack, encode=EXACT, **how)
    assert result.faces_edited == result.frames == 11
    assert [(track.first, track.last) for track in result.tracks] == [(0, 5), (6, 10)]
    assert result.identity.similarity_mean is None
    assert result.warnings == ()
    for before, after in zip(images_of(clip), images_of(tmp_path / "out.mkv"), strict=True):
        # More than the rounding of colours on their way through the encoder.
        changed = (np.abs(before.astype(int) - after) > 6).any(axis=2)
        inside = np.zeros_like(changed)
        inside[rows, columns] = True
        assert not changed[~inside].any()
        assert changed[rows, columns].mean() > 0.5


def test_pictures_too(tmp_path):
    PillowImage.fromarray(scenes()[0]).save(tmp_path / "church.png")
    pack = pack_with(tmp_path, "frame")
    result = vidinv.invert(tmp_path / "church.png", tmp_path / "out.png", pack=pack)
    assert result.faces_edited == 1
    before, after = (np.array(PillowImage.open(tmp_path / n)) for n in ("church.png", "out.png"))
    assert (before != after).any(axis=2)[:, 16:80].mean() > 0.5


def test_who_is_asked_for_is_not_there(tmp_path, clip):
    pack = pack_with(tmp_path, "frame")
    with pytest.raises(UsageError, match="edits whole frames: --face 1 chooses nobody"):
        vidinv.invert(clip, tmp_path / "out.mkv", pack=pack, face="1")
    assert not (tmp_path / "out.mkv").exists()


def test_a_square_that_is_not_in_the_frame_is_said(tmp_path, clip):
    pack = pack_with(tmp_path, "crop:60,0,40")
    with pytest.raises(UsageError, match=r"side 40\) is not inside frames of 96x64"):
        vidinv.invert(clip, tmp_path / "out.mkv", pack=pack)


def test_reports_are_about_faces(tmp_path, clip, capsys):
    folder = pack_with(tmp_path, "frame").folder
    arguments = [str(clip), str(clip), "--pack", str(folder), "-o", str(tmp_path / "r.html")]
    assert main(["report", *arguments]) == 2
    assert "edits whole frames" in capsys.readouterr().err.splitlines()[-1]


def test_names_of_squares():
    assert whole_alignment("ffhq") is None
    assert crop_scale_of("letterbox") == 1.0
    with pytest.raises(UsageError, match="must be crop:X,Y,SIDE"):
        whole_alignment("crop:1,2")
    with pytest.raises(UsageError, match="this looks for faces"):
        named_alignment("frame")
    with pytest.raises(UnknownNameError, match="letterbox"):
        crop_scale_of("leterbox")
