"""Several people in a clip: listed by number, edited each in their own way, known again."""

from __future__ import annotations

import json

import numpy as np
import pytest

import vidinv
from pipelines.batch.inputs.find import find_jobs
from pipelines.batch.request.jobs import Job, Settings, pack_digest
from pipelines.batch.stages.runner import StageRunner
from pipelines.demo import make_clip
from tests.packs.tiny import write_tiny_pack
from tests.pipelines.batch.in_process import InProcessWorkers, run_jobs
from tests.pipelines.passes import Passes
from tests.video.clips import comment_of, images_of, side_by_side, write_clip
from vidinv.cli import main
from vidinv.errors import UsageError
from vidinv.packs import load_pack
from vidinv.video import read_image, write_image

SIDE, FRAMES, AWAY = 256, 8, 50
# Two that the recognition network holds for strangers: distance 0.84.
LEFT_SEED, RIGHT_SEED, TRUNCATION = 2, 5, 0.7


@pytest.fixture(scope="module")
def pack():
    return load_pack()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Random weights, for tests of who is edited and not of how."""
    return load_pack(write_tiny_pack(tmp_path_factory.mktemp("pack")))


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


class Edited:
    """An edit: its result, and its pictures before encoding, ``[T, H, W, 3]``, left and right.

    ``difference`` to the source, ``[T]``, the largest of a frame; ``changed``: it is not 0 in all.
    """

    def __init__(self, clip, output, attributes, **options) -> None:
        passes = Passes()
        self.result = vidinv.edit(clip, output, attributes=attributes, progress=passes, **options)
        self.output, self.passes = output, set(passes.seen)
        frames, pictures = zip(*passes.seen["edit"], strict=True)
        self.sides = np.split(np.stack(pictures), 2, axis=2)
        sources = np.split(np.stack([frame.image for frame in frames]), 2, axis=2)
        self.difference = [
            np.abs(made.astype(int) - source).max((1, 2, 3))
            for made, source in zip(self.sides, sources, strict=True)
        ]
        self.changed = [bool(difference.any()) for difference in self.difference]


@pytest.fixture(scope="module")
def edit(both, pack, tmp_path_factory):
    """``edit(attributes, **options)`` of both people."""
    output = tmp_path_factory.mktemp("edited") / "out.mp4"

    def run(attributes, **options):
        options = {"pack": pack, "overwrite": True, **options}
        return Edited(both, output, attributes, **options)

    return run


@pytest.fixture(scope="module")
def smiling(edit):
    """Face 0 alone."""
    return edit({"0:smile": 1.5})


@pytest.fixture(scope="module")
def older(edit):
    """Face 1 alone."""
    return edit({"1:age": 1.5})


def test_only_the_named_face_changes(smiling, older):
    assert smiling.changed == [True, False]  # numbers count from the left
    assert smiling.result.faces_edited == FRAMES
    assert [track.id for track in smiling.result.tracks] == [0]
    # Whichever of the two is the largest: naming one is enough.
    assert [track.id for track in older.result.tracks] == [1]
    assert older.changed == [False, True]


def test_each_face_has_its_own_attributes(smiling, older, edit):
    together = edit({"0:smile": 1.5, "1:age": 1.5})
    assert together.changed == [True, True]
    assert np.array_equal(together.sides[0], smiling.sides[0])
    assert np.array_equal(together.sides[1], older.sides[1])
    assert together.result.attributes == {"0:smile": 1.5, "1:age": 1.5}
    assert "0:smile=1.5 1:age=1.5; method" in comment_of(together.output)


def test_its_own_attribute_goes_before_that_of_all(smiling, edit):
    but_one = edit({"smile": 1.5, "1:smile": 0}, face="all")
    assert but_one.changed == smiling.changed
    pairs = zip(but_one.sides, smiling.sides, strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)
    assert [track.id for track in but_one.result.tracks] == [0]


def test_naming_a_face_adds_it_to_the_largest(both, tiny, edit):
    (large,) = (t.id for t in vidinv.list_faces(both, pack=tiny).tracks if t.largest)
    made = edit({"smile": 1.5, f"{1 - large}:age": 1}, pack=tiny)
    assert [track.id for track in made.result.tracks] == [0, 1]
    assert made.changed == [True, True]


@pytest.mark.parametrize("name", ["2:smile", "17:age"])
def test_a_number_that_nobody_has_is_refused(both, tmp_path, capsys, name):
    output = tmp_path / "out.mp4"
    assert main(["edit", str(both), "-o", str(output), "--attr", "smile", "--attr", name]) == 2
    number = name.partition(":")[0]
    said = f"vidinv: no face {number} in the clip: it has faces 0 to 1 (see 'vidinv faces')\n"
    assert capsys.readouterr().err == said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["0:smlie", "smlie"])
def test_an_unknown_attribute_of_a_face_is_refused(both, tmp_path, capsys, name):
    assert main(["edit", str(both), "-o", str(tmp_path / "out.mp4"), "--attr", name]) == 2
    assert "attribute 'smlie'" in capsys.readouterr().err


def test_latents_serve_the_faces_that_they_are_of(edit, tiny, tmp_path):
    first = edit({"0:smile": 1.5}, latents=tmp_path, pack=tiny)
    again = edit({"0:age": 1, "0:smile": 1}, latents=tmp_path, pack=tiny)
    assert (first.passes, again.passes) == ({"analyse", "edit"}, {"edit"})
    assert again.result.tracks == first.result.tracks
    other = edit({"1:smile": 1.5}, latents=tmp_path, pack=tiny)
    assert any("attributes_of_faces" in warning for warning in other.result.warnings)
    assert other.changed == first.changed[::-1]


def test_batch_edits_as_edit_does(both, tiny, edit, tmp_path):
    attributes = {"0:smile": 1.5, "1:age": 1.5}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"input": str(both), "attributes": attributes}) + "\n")
    bad = {"input": str(both), "output": "bad.mp4", "attributes": "0:smile 5:age=1"}
    rows.write_text(rows.read_text() + json.dumps(bad))
    jobs = find_jobs([str(rows)], output=tmp_path / "out", attributes={})
    jobs = [Job.from_json(job.to_json()) for job in jobs]
    settings = Settings(str(tiny.folder), pack_digest(tiny.meta))
    made = run_jobs(jobs, tmp_path / "out", InProcessWorkers(StageRunner(settings)))
    row = made["both.mp4"]
    assert [track["id"] for track in row["tracks"]] == [0, 1]
    assert "0:smile=1.5 1:age=1.5; method" in comment_of(tmp_path / "out" / "both.mp4")
    expected = edit(attributes, pack=tiny, encode=settings.encode)
    pairs = zip(images_of(tmp_path / "out" / "both.mp4"), images_of(expected.output), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)
    assert made["bad.mp4"]["status"] != "done"
    assert "no face 5" in made["bad.mp4"]["cause"]


def test_whole_frames_have_no_faces_to_name(both, tmp_path):
    squares = write_tiny_pack(tmp_path / "tiny", alignment="frame")
    with pytest.raises(UsageError, match="edits whole frames: --attr 0:NAME chooses nobody"):
        vidinv.edit(both, tmp_path / "out.mp4", attributes={"0:smile": 1}, pack=squares)


@pytest.fixture(scope="module")
def returning(people, tmp_path_factory):
    """``returning(number)``: the first person, nobody for two seconds, then one of the two.

    They stand beside a pattern, so that no cut is seen.
    """
    folder = tmp_path_factory.mktemp("returning")
    pattern = np.kron(np.random.default_rng(0).integers(0, 255, (8, 8, 3)), np.ones((32, 32, 1)))
    empty = [np.full((SIDE, SIDE, 3), 110, np.uint8)] * AWAY

    def clip(number):
        stand_in = [*people[0], *empty, *people[number]]
        return write_clip(
            folder / f"{number}.mp4",
            side_by_side(stand_in, [pattern.astype(np.uint8)] * len(stand_in)),
        )

    return clip


@pytest.mark.parametrize("who", [0, 1])
def test_who_leaves_for_two_seconds_and_returns_keeps_the_number(returning, tiny, who):
    found = vidinv.list_faces(returning(who), pack=tiny)
    assert found.shots == 1
    spans = [(0, FRAMES - 1), (FRAMES + AWAY, 2 * FRAMES + AWAY - 1)]
    assert [(track.first, track.last) for track in found.tracks] == spans
    assert [track.id for track in found.tracks] == [0, who]


def test_who_returned_is_edited_and_nothing_meanwhile(returning, tiny, tmp_path):
    made = Edited(returning(0), tmp_path / "out.mp4", {"0:smile": 1.5}, pack=tiny)
    assert [track.id for track in made.result.tracks] == [0, 0]
    differ = made.difference[0]
    assert not differ[FRAMES : FRAMES + AWAY].any()
    assert differ[FRAMES // 2] > 0
    assert differ[-FRAMES // 2] > 0
