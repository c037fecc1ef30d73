"""Several people in a clip: listed by number, edited by number, known again after an absence."""

from __future__ import annotations

import json

import numpy as np
import pytest

import vidinv
from pipelines.demo import make_clip
from tests.packs.tiny import write_tiny_pack
from tests.video.clips import images_of, side_by_side, write_clip
from vidinv.cli import main
from vidinv.errors import UsageError
from vidinv.packs import load_pack
from vidinv.video import read_image, write_image

SIDE, FRAMES = 256, 8
# Two that the recognition network holds for strangers: distance 0.84.
LEFT_SEED, RIGHT_SEED, TRUNCATION = 2, 5, 0.7


@pytest.fixture(scope="module")
def pack():
    return load_pack()


@pytest.fixture(scope="module")
def people(pack, tmp_path_factory):
    """Frames of two people, each in a clip of their own."""
    folder = tmp_path_factory.mktemp("people")
    made = [
        make_clip(
            pack,
            folder / f"{seed}.mp4",
            seconds=FRAMES / 25,
            size_px=SIDE,
            seed=seed,
            truncation=TRUNCATION,
            tone=False,
        )
        for seed in (LEFT_SEED, RIGHT_SEED)
    ]
    return [images_of(path) for path in made]


@pytest.fixture(scope="module")
def both(people, tmp_path_factory):
    """A clip of the two side by side, the one at the right smaller."""
    path = tmp_path_factory.mktemp("both") / "both.mp4"
    return write_clip(path, side_by_side(*people))


def test_faces_are_listed_and_drawn(both, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert main(["faces", str(both), "-o", str(sheet)]) == 0
    told = capsys.readouterr()
    head, *lines = told.out.splitlines()
    assert head.split() == ["face", "seconds", "frames", "size", "--face", "largest"]
    assert [line.split()[:3] for line in lines] == [[n, "0.00-0.28", "8"] for n in "01"]
    assert sorted(line.split()[-1] for line in lines) == ["no", "yes"]
    assert str(sheet) in told.err
    tiles = np.split(read_image(sheet), 2, axis=1)
    # Each tile is the face of its number: 0 stands at the left in the clip, or at the right.
    assert np.abs(tiles[0][40:].astype(int) - tiles[1][40:]).mean() > 20
    assert all((tile[:40] == 255).mean() > 0.8 for tile in tiles)


def test_faces_as_json(both, capsys):
    assert main(["faces", str(both), "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["frames"], found["shots"], found["sheet"]) == (FRAMES, 1, None)
    fields = "id first last frames first_seconds last_seconds size_px largest"
    assert all(list(track) == fields.split() for track in found["tracks"])
    assert [track["id"] for track in found["tracks"]] == [0, 1]
    assert all(180 < track["size_px"] < 260 for track in found["tracks"])


def test_faces_of_a_picture(people, pack, tmp_path):
    picture, sheet = tmp_path / "both.png", tmp_path / "sheet.jpg"
    write_image(picture, side_by_side(*people)[0])
    found = vidinv.list_faces(picture, sheet=sheet, pack=pack)
    assert [(track.id, track.frames) for track in found.tracks] == [(0, 1), (1, 1)]
    assert sheet.exists()


def test_nobody_is_said_and_no_sheet_written(tmp_path, capsys):
    picture, sheet = tmp_path / "grey.png", tmp_path / "sheet.png"
    write_image(picture, np.full((64, 64, 3), 127, np.uint8))
    assert main(["faces", str(picture), "-o", str(sheet)]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"vidinv: note: no face found in {picture}\n"
    assert not sheet.exists()


def test_a_sheet_that_makes_no_sense_is_refused(both, tmp_path):
    there = tmp_path / "there.png"
    there.write_bytes(b"mine")
    with pytest.raises(UsageError, match="the sheet is a picture"):
        vidinv.list_faces(both, sheet=tmp_path / "sheet.mp4")
    with pytest.raises(UsageError, match="exists"):
        vidinv.list_faces(both, sheet=there)
    squares = write_tiny_pack(tmp_path / "tiny", alignment="frame")
    with pytest.raises(UsageError, match="it seeks no faces"):
        vidinv.list_faces(both, pack=squares)
