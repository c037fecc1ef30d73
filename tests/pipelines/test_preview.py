"""``--preview``: source and edit in one video, or on a sheet, beside an output that is as ever."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

import pipelines.preview as module
import vidinv
from pipelines.demo import make_clip
from pipelines.preview import LINE_PX, TILE_PX, fitted_size, said
from tests.packs.tiny import write_tiny_pack
from tests.pipelines.passes import Passes
from tests.video.clips import comment_of, images_of, packets_of, plain_times, psnr, write_clip
from vidinv.errors import EncodeError, UsageError
from vidinv.packs import load_pack
from vidinv.paths import sole_writer
from vidinv.provenance import credentials, is_edit_comment
from vidinv.sheets import CAPTION_PX, NO_BREAK, captioned
from vidinv.types import EditSpec, RenderMode
from vidinv.video import VideoInfo, read_image, write_image

FRAMES, SIZE = 10, 256
SMILE = {"smile": 3.0}
TWO_SMILES = {"attributes": SMILE, "max_frames": 2}


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return load_pack(write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return make_clip(load_pack(), path, seconds=FRAMES / 25, size_px=SIZE)


def edit(clip, folder, pack, preview, **how):
    passes = Passes()
    wish = {"attributes": SMILE, "progress": passes, "preview": folder / preview, **how}
    result = vidinv.edit(clip, folder / f"out{clip.suffix}", pack=pack, **wish)
    return result, [(frame.image, picture) for frame, picture in passes.seen.get("edit", [])]


def middle(image):
    return image[64:192, 64:192]


def test_a_video_has_the_source_on_the_left_and_the_edit_on_the_right(pack, clip, tmp_path):
    _, pairs = edit(clip, tmp_path, pack, "p.mp4")
    shown = images_of(tmp_path / "p.mp4")
    assert len(shown) == len(pairs) == FRAMES
    for both, (source, edited) in zip(shown, pairs, strict=True):
        assert both.shape == (SIZE + CAPTION_PX, 2 * SIZE, 3)
        left, right = both[CAPTION_PX:, :SIZE], both[CAPTION_PX:, SIZE:]
        assert psnr(middle(left), middle(source)) > 33 > psnr(middle(left), middle(edited))
        assert psnr(middle(right), middle(edited)) > 33
    assert plain_times(tmp_path / "p.mp4") == plain_times(clip)
    assert packets_of(tmp_path / "p.mp4") == packets_of(clip)
    assert is_edit_comment(comment_of(tmp_path / "p.mp4"))


@pytest.mark.parametrize("preview", ["p.mp4", "p.png"])
def test_pixels_that_are_not_square_are_shown_as_a_viewer_sees_them(pack, clip, tmp_path, preview):
    seen = images_of(clip, limit=3)
    stored = [cv2.resize(image, (SIZE // 2, SIZE), interpolation=cv2.INTER_AREA) for image in seen]
    narrow = write_clip(tmp_path / "narrow.mp4", stored, aspect=Fraction(2))
    edit(narrow, tmp_path, pack, preview)
    if preview == "p.mp4":
        for both, image in zip(images_of(tmp_path / preview), seen, strict=True):
            assert both.shape == (SIZE + CAPTION_PX, 2 * SIZE, 3)
            assert psnr(middle(both[CAPTION_PX:, :SIZE]), middle(image)) > 25
        return
    square = write_clip(tmp_path / "square.mp4", seen)
    edit(square, tmp_path, pack, "square.png", overwrite=True)
    sheets = [read_image(tmp_path / name) for name in (preview, "square.png")]
    before = [np.split(sheet, 2)[0][CAPTION_PX:] for sheet in sheets]
    assert psnr(*before) > 22  # landmarks differ by a pixel


def test_a_split_video_has_both_sides_of_a_line_that_moves(pack, clip, tmp_path):
    _, pairs = edit(clip, tmp_path, pack, "p.mp4", preview_style="split")
    shown = images_of(tmp_path / "p.mp4")
    lines = []
    for both, (source, edited) in zip(shown, pairs, strict=True):
        assert both.shape == (SIZE + CAPTION_PX, SIZE, 3)
        both = both[CAPTION_PX:]
        lines.append(int(both.min(axis=(0, 2)).argmax()))
        at = lines[-1]
        assert psnr(both[:, : at - LINE_PX - 6], source[:, : at - LINE_PX - 6]) > 30
        assert psnr(both[:, at + LINE_PX + 6 :], edited[:, at + LINE_PX + 6 :]) > 30
    assert abs(lines[0] - SIZE // 2) <= LINE_PX
    assert lines[-1] - lines[0] > 0.2 * SIZE


def test_a_sheet_has_the_faces_at_several_times_and_the_output_is_as_ever(pack, clip, tmp_path):
    edit(clip, tmp_path, pack, "p.png")
    vidinv.edit(clip, tmp_path / "alone.mp4", attributes=SMILE, pack=pack)
    assert (tmp_path / "alone.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()
    sheet = read_image(tmp_path / "p.png")
    assert sheet.shape == (2 * (TILE_PX + CAPTION_PX), 6 * TILE_PX, 3)
    before, after = np.split(sheet.astype(int), 2)
    changes = np.abs(before - after)[CAPTION_PX:].reshape(TILE_PX, 6, -1).mean(axis=(0, 2))
    assert changes.min() > 1
    assert is_edit_comment(comment_of(tmp_path / "p.png"))


def test_a_sheet_of_a_picture_has_one_column(pack, clip, tmp_path):
    write_image(tmp_path / "face.png", images_of(clip, limit=1)[0])
    edit(tmp_path / "face.png", tmp_path, pack, "p.jpg")
    sheet = read_image(tmp_path / "p.jpg")
    assert sheet.shape == (2 * (2 * TILE_PX + CAPTION_PX), 2 * TILE_PX, 3)
    before, after = np.split(sheet.astype(int), 2)
    assert np.abs(before - after)[CAPTION_PX:].mean() > 1


def test_a_video_of_an_inversion_says_so(pack, clip, tmp_path):
    vidinv.invert(clip, tmp_path / "out.mp4", pack=pack, preview=tmp_path / "p.mp4", max_frames=1)
    (both,) = images_of(tmp_path / "p.mp4")
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    strips = {word: captioned(blank, word)[:CAPTION_PX] for word in ("edited", "inversion")}
    found = {word: psnr(both[:CAPTION_PX, SIZE:], strip) for word, strip in strips.items()}
    assert found["inversion"] > found["edited"] + 5


def test_a_tile_says_the_strengths_of_those_in_it():
    keys = {"smile": ((0.0, 0.0), (2.0, 1.0)), "1:smile": ((0.0, -1.0),), "1:age": ((0.0, 2.0),)}
    spec = EditSpec(attributes=keys)

    def words(persons, spec=spec):
        return said(spec, 1.0, persons).replace(NO_BREAK, " ")

    assert words([0]) == words([0, 2]) == "smile 0.5"
    assert words([1]) == "smile -1.0, age 2.0"
    assert words([0, 1]) == "0:smile 0.5, 1:smile -1.0, 1:age 2.0"
    assert words([0], EditSpec(mode=RenderMode.INVERT)) == "inversion"


def test_large_clips_fit_a_screen():
    def size(width, height, columns, aspect=None):
        info = VideoInfo.from_scratch(width=width, height=height, rate=25)
        return fitted_size(replace(info, sample_aspect_ratio=aspect), columns=columns)

    assert size(512, 512, 2) == (512, 512)
    assert size(1920, 1080, 2) == (960, 540)
    assert size(3840, 2160, 1) == (1884, 1060)
    assert size(720, 1280, 2) == (596, 1060)
    assert size(720, 576, 2, Fraction(64, 45)) == (960, 540)
    assert size(101, 75, 2) == (100, 76)


def test_no_preview_is_written_where_nothing_was_edited(pack, tmp_path):
    clip = write_clip(tmp_path / "a.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 3)
    result, _ = edit(clip, tmp_path, pack, "p.mp4")
    assert any("no preview" in text for text in result.warnings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "out.mp4"]


@pytest.mark.parametrize("preview", ["p.mp4", "p.png"])
def test_an_interrupt_leaves_no_preview(pack, clip, tmp_path, preview):
    how = {"attributes": SMILE, "preview": tmp_path / preview}
    with pytest.raises(KeyboardInterrupt):
        vidinv.edit(
            clip,
            tmp_path / "out.mp4",
            pack=pack,
            progress=Passes(interrupted="edit", after=5),
            **how,
        )
    assert not list(tmp_path.iterdir())


class Removing(Passes):
    """Removes a folder while frames are edited: no file can then be put in its place."""

    def __init__(self, folder):
        super().__init__()
        self._folder = folder

    def _passed(self, items, label):
        for item in super()._passed(items, label):
            if label == "edit":
                shutil.rmtree(self._folder, ignore_errors=True)
            yield item


@pytest.mark.parametrize("preview", ["p.mp4", "p.png"])
def test_a_preview_that_cannot_be_written_does_not_cost_the_output(pack, clip, tmp_path, preview):
    (tmp_path / "gone").mkdir()
    how = {"preview": tmp_path / "gone" / preview, "pack": pack, **TWO_SMILES}
    progress = Removing(tmp_path / "gone")
    result = vidinv.edit(clip, tmp_path / "out.mp4", progress=progress, **how)
    assert any(text.startswith("preview: not written: ") for text in result.warnings)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert len(images_of(tmp_path / "out.mp4")) == 2


@pytest.mark.parametrize("preview", ["p.mp4", "p.png"])
def test_a_fault_amid_the_frames_costs_the_preview_alone(
    pack, clip, tmp_path, monkeypatch, preview
):
    """As a disk that is full after some frames: nothing of it is left, and the output is whole."""
    calls = []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        return whole(*arguments)

    name = "_tile" if preview == "p.png" else "_resized"
    whole = getattr(module, name)
    monkeypatch.setattr(module, name, failing)
    result, pairs = edit(clip, tmp_path, pack, preview, max_frames=5)
    assert len(pairs) == len(images_of(tmp_path / "out.mp4")) == 5
    assert len(calls) == 4  # given up, not tried again
    assert "preview: not written: [Errno 28] No space left on device" in result.warnings
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_there_is_no_preview_without_the_output(pack, clip, tmp_path):
    (tmp_path / "gone").mkdir()
    how = {"preview": tmp_path / "p.mp4", "pack": pack, **TWO_SMILES}
    progress = Removing(tmp_path / "gone")
    with pytest.raises(EncodeError):
        vidinv.edit(clip, tmp_path / "gone" / "out.mp4", progress=progress, **how)
    assert not list(tmp_path.iterdir())


def test_what_a_preview_lacks_is_said(pack, clip, tmp_path):
    result, _ = edit(clip, tmp_path, pack, "p.webm", max_frames=1)
    assert "preview: stream 1 (audio, aac) was re-encoded to Opus" in result.warnings[-1]


def test_what_a_sheet_lacks_is_said(pack, clip, tmp_path, monkeypatch):
    monkeypatch.setenv(credentials.SWITCH, "on")
    write_image(tmp_path / "face.bmp", images_of(clip, limit=1)[0])
    result, _ = edit(tmp_path / "face.bmp", tmp_path, pack, "p.bmp")
    lacking = ["no comment"] + ["no content credentials"] * credentials.is_installed()
    for what in lacking:
        said = [text.startswith("preview: ") for text in result.warnings if what in text]
        assert sorted(said) == [False, True], what


@pytest.mark.parametrize("preview", ["p.mp4", "p.png"])
def test_a_preview_is_written_by_one_run_only(pack, clip, tmp_path, preview):
    with (
        sole_writer(tmp_path / preview),
        pytest.raises(UsageError, match="is being written by another run"),
    ):
        edit(clip, tmp_path, pack, preview)


@pytest.mark.parametrize(
    ("preview", "style", "message"),
    [
        ("out.mp4", "side", "is the output itself"),
        ("p.mp4", "over", "--preview-style over: there are side, split"),
        ("p.png", "split", "--preview-style split is of videos"),
        ("p.xyz", "side", r"cannot write \.xyz video"),
        ("taken.png", "side", "exists: give another output"),
        ("absent/p.mp4", "side", "does not exist; make it first"),
    ],
)
def test_previews_that_make_no_sense_are_refused(pack, clip, tmp_path, preview, style, message):
    (tmp_path / "taken.png").write_bytes(b"precious")
    with pytest.raises(UsageError, match=message):
        edit(clip, tmp_path, pack, preview, preview_style=style)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]


def test_a_video_of_a_picture_is_refused(pack, tmp_path):
    write_image(tmp_path / "a.png", np.full((64, 96, 3), 90, np.uint8))
    with pytest.raises(UsageError, match=r"of a picture it is one too, as preview\.png"):
        edit(tmp_path / "a.png", tmp_path, pack, "p.mp4")
