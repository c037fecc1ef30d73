"""Reports from file to file: a deliberate fault is found, clips that do not belong are refused."""

from __future__ import annotations

import dataclasses
import json
import math
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

import vidinv
from pipelines import demo
from pipelines.clip.networks import Networks
from pipelines.clip.session import ClipSession
from pipelines.report.clips import Clips
from pipelines.report.request import check_page
from tests.faces.dlib_reference import dlib_embedding
from tests.packs.tiny import write_tiny_pack
from tests.pipelines.passes import Passes
from tests.report.faults import write_faulty_clip, write_faulty_real_clip
from tests.video.clips import images_of, write_clip
from vidinv.api import write_report
from vidinv.cli import main
from vidinv.errors import UsageError
from vidinv.faces import TIGHT, analyse, dlib_backend, find_faces
from vidinv.geometry import transform_points
from vidinv.packs import Pack, load_pack
from vidinv.report import IndexRow
from vidinv.types import EditSpec, Frame, RenderMode
from vidinv.video import probe, write_image

FRAMES, SIZE_PX = 48, 256
SWAPPED, FLICKERS = range(14, 24), (32, 36, 40)


@pytest.fixture(scope="module")
def pack():
    return load_pack()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def source(pack, folder):
    return make_person(pack, folder / "source.mp4", seed=0, truncation=demo.TRUNCATION)


@pytest.fixture(scope="module")
def edited(pack, source, folder):
    output = folder / "edited.mp4"
    vidinv.edit(source, output, attributes={"smile": 1}, pack=pack)
    return output


@pytest.fixture(scope="module")
def faulty(pack, source, edited, folder):
    """The edit with another person in ten frames and three that jump."""
    person = embedding_of(images_of(source, limit=1)[0])
    others = {
        seed: make_person(pack, folder / f"{seed}.mp4", seed=seed, truncation=0.7, seconds=0.04)
        for seed in (2, 4, 5)
    }
    distances = {seed: far(person, images_of(clip)[0]) for seed, clip in others.items()}
    seed = max(distances, key=distances.__getitem__)
    stranger = make_person(pack, folder / "stranger.mp4", seed=seed, truncation=0.7)
    return write_faulty_clip(
        folder / "faulty.mp4", edited, stranger, swapped=SWAPPED, flickers=FLICKERS
    )


def make_person(pack, path, *, seed, truncation, seconds=FRAMES / demo.RATE):
    """A made clip of a person who may be farther from the mean than the demo's."""
    how = {"seconds": seconds, "size_px": SIZE_PX, "seed": seed, "truncation": truncation}
    return demo.make_clip(pack, path, **how, tone=False)


def embedding_of(picture):
    """Embedding of the face in a picture, or None."""
    faces = find_faces(picture, dlib_backend())
    return dlib_backend().embedder.embed(picture, faces[0].landmarks) if faces else None


def far(person, picture) -> float:
    """Distance of a picture's face to a person; 0 where no face is found."""
    other = embedding_of(picture)
    return 0.0 if other is None else float(np.linalg.norm(other - person))


@pytest.fixture(scope="module")
def report(pack, source, faulty, folder):
    return write_report(source, faulty, folder / "faulty.html", pack=pack, edit={"smile": 1.0})


def test_exactly_the_faulty_frames_are_on_top(report):
    found = {item.frame: item.reasons for item in report.standing_out}
    assert set(found) == {*SWAPPED, *FLICKERS}
    assert all(found[frame][0] == "identity" for frame in SWAPPED)
    assert all(found[frame][0] in ("flicker", "border") for frame in FLICKERS)


def test_figures_say_what_the_fault_did(report):
    s = report.summary
    assert s.ic_output < s.ic_source - 0.05
    assert s.tg_id < 0.95
    assert s.flicker_output > s.flicker_source
    assert s.attributes["mouth_width"][1] > s.attributes["mouth_width"][0]
    assert s.attributes["smile"][1] > s.attributes["smile"][0] + 0.2
    assert s.psnr_inversion > 20
    assert 0.5 < s.ssim_inversion < 1
    assert [track.summary.ic_output for track in report.tracks] == [s.ic_output]
    assert report.recognition.network.startswith("dlib")
    assert report.recognition.mean_centred


def test_the_files_agree_with_the_result(report, folder):
    data = json.loads((folder / "faulty.json").read_text())
    assert data == json.loads(json.dumps(report.as_dict()))
    assert len(data["rows"]) == FRAMES
    assert (folder / "faulty.csv").read_text().count("\n") == FRAMES + 1
    assert (folder / "faulty.html").read_text().count("data:image/jpeg") > 2 * len(SWAPPED)


def test_a_sparse_look_still_finds_the_whole_fault(pack, source, faulty, folder):
    report = write_report(
        source, faulty, folder / "sparse.html", pack=pack, every=5, inversion=False
    )
    known = report.recognition
    assert known.refined > 0
    assert known.embedded < FRAMES
    swapped = {item.frame for item in report.standing_out if item.reasons[0] == "identity"}
    assert swapped == set(SWAPPED)


def test_a_plain_edit_has_no_faults(pack, source, edited, folder):
    report = write_report(
        source, edited, folder / "plain.html", pack=pack, every=4, inversion=False
    )
    assert report.standing_out == ()
    assert [track.changed for track in report.tracks] == [True]
    assert abs(report.summary.tl_id - 1) < 0.1


@pytest.fixture(scope="module")
def short(source, folder):
    return write_clip(folder / "short.mp4", images_of(source, limit=6))


@pytest.fixture(scope="module")
def short_edit(edited, folder):
    return write_clip(folder / "short_edit.mp4", images_of(edited, limit=6))


def test_clips_of_another_length_are_refused(pack, short, edited, tmp_path):
    four = write_clip(tmp_path / "four.mp4", images_of(edited, limit=4))
    with pytest.raises(UsageError, match=r"short.mp4 has 6 frames and .*four.mp4 4"):
        write_report(short, four, tmp_path / "a.html", pack=pack)
    with pytest.raises(UsageError, match=r"four.mp4 has 4 frames and .*short.mp4 6"):
        write_report(four, short, tmp_path / "a.html", pack=pack)
    assert not (tmp_path / "a.html").exists()


def test_another_length_is_seen_before_anything_is_measured(pack, short, edited, tmp_path):
    four = write_clip(tmp_path / "four.mp4", images_of(edited, limit=4))
    unmeasured = Passes(refused=("faces",))
    with pytest.raises(UsageError, match=r"short.mp4 has 6 frames and .*four.mp4 4"):
        write_report(short, four, tmp_path / "a.html", pack=pack, progress=unmeasured)


def test_a_header_that_counts_wrongly_is_no_reason_to_refuse(short, short_edit):
    def wrong(path, **how):
        asked.append(path)
        info = probe(path, **how)
        return dataclasses.replace(info, num_frames=99) if path == short else info

    asked = []
    Clips(short, short_edit).check(probe=wrong)
    assert asked == [short, short_edit]


def test_clips_of_another_size_are_refused(pack, short, tmp_path):
    small = write_clip(tmp_path / "small.mp4", [i[:128, :128] for i in images_of(short)])
    with pytest.raises(UsageError, match="128x128"):
        write_report(short, small, tmp_path / "a.html", pack=pack)


def test_the_inversion_is_measured(short, tmp_path):
    tiny = write_tiny_pack(tmp_path / "tiny")
    report = write_report(short, short, tmp_path / "a.html", pack=tiny, every=2)
    s = report.summary
    assert 0 < s.psnr_inversion < 20  # the tiny pack knows no faces
    assert abs(s.ssim_inversion) < 0.5
    assert s.ic_inversion is not None
    assert any("LPIPS is absent" in note for note in report.notes) == (s.lpips_inversion is None)
    assert any("no face differs" in note for note in report.notes)
    assert not report.recognition.mean_centred  # the tiny pack has no mean embedding
    assert all("smile" not in row.source_attributes for row in report.rows)  # and no smile
    assert report.summary.attributes["smile"] == (None, None)
    assert all(row.first_inversion is not None for row in report.rows[::2])


def test_the_inversions_identity_is_that_of_the_generators_picture(pack, shared_dir, tmp_path):
    """Not of the one that ``invert`` pastes into the frame, which is nearer to the source."""
    picture, inverted = tmp_path / "a.png", tmp_path / "b.png"
    image = images_of(shared_dir / "clips" / "talk_hand_512.mp4", limit=1)[0]
    write_image(picture, image)
    vidinv.invert(picture, inverted, pack=pack)
    (row,) = write_report(picture, inverted, tmp_path / "a.html", pack=pack).rows
    face = inverted_face(pack, picture, image)
    large = cv2.resize(face.rendered, (512, 512), interpolation=cv2.INTER_CUBIC)
    points = transform_points(face.landmarks, face.crop.frame_to_crop(512)).astype(np.float32)
    found = dlib_embedding(np.clip(large, 0, 255).astype(np.uint8), points)
    before = dlib_embedding(image, face.landmarks)
    generated = float(np.linalg.norm(found - before))
    assert row.distance_inversion == pytest.approx(generated, abs=0.015)
    # Much nearer to it than to that of the pasted face, by which the default pack is flattered.
    assert 0 < row.distance < row.distance_inversion
    assert abs(row.distance_inversion - generated) < (row.distance_inversion - row.distance) / 2
    assert row.similarity_inversion < row.similarity


def inverted_face(pack, picture, image):
    """The face of a still picture with what the generator makes of it."""
    spec = EditSpec(method="fse", face="all", mode=RenderMode.INVERT)
    frame = Frame(index=0, pts=0, time_base=Fraction(1), image=image)
    analysis = analyse([frame], new_shot=lambda _: None, alignment=TIGHT)
    editor = ClipSession(picture, spec, Networks(pack)).editor(analysis, states={})
    ((chunk,),) = (list(editor.process([[frame]])),)
    return chunk.faces[0][0]


class PackWithoutInverter(Pack):
    def inverter(self, *_, **__):
        pytest.fail("not asked for")


def test_without_the_inversion_nothing_is_inverted(pack, short, short_edit, tmp_path):
    how = {"pack": PackWithoutInverter(pack.files), "inversion": False, "every": 3}
    report = write_report(short, short_edit, tmp_path / "a.html", **how)
    assert report.summary.ic_inversion is None
    assert not report.has_inversion


def test_two_pictures_are_compared(pack, source, edited, tmp_path):
    for name, clip in (("a.png", source), ("b.png", edited)):
        write_image(tmp_path / name, images_of(clip, limit=1)[0])
    report = write_report(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "a.html", pack=pack)
    assert len(report.rows) == 1
    assert report.summary.ic_output is None
    assert report.summary.distance_median > 0


def test_clips_without_a_face_give_a_report_that_says_so(pack, tmp_path):
    clip = write_clip(tmp_path / "grey.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 3)
    report = write_report(clip, clip, tmp_path / "a.html", pack=pack)
    assert report.frames_without_face == 3
    assert "No face was found" in (tmp_path / "a.html").read_text()


def test_the_command_writes_a_report(capsys, short, short_edit, tmp_path):
    page = tmp_path / "a.html"
    command = ["report", str(short), str(short_edit), "-o", str(page), "--every", "3"]
    assert main([*command, "--json", "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)
    written = json.loads(page.with_suffix(".json").read_text())
    assert {name: written[name] for name in said} == said
    assert {"summary", "standing_out"} < set(said)
    assert (said["recognition"]["network"], said["recognition"]["every"]) == (
        "dlib_face_recognition_resnet_v1",
        3,
    )
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".html", ".json", ".csv"])
def test_no_file_beside_the_page_is_replaced_unasked(capsys, short, tmp_path, suffix):
    precious = tmp_path / f"clips{suffix}"
    precious.write_text("precious")
    page = str(tmp_path / "clips.html")
    for command in (
        ["report", str(short), str(short), "-o", page],
        ["edit", str(short), "-o", str(tmp_path / "o.mp4"), "--attr", "smile", "--report", page],
    ):
        assert main([*command, "--quiet"]) == 2
        said = capsys.readouterr().err
        assert f"{precious} exists" in said
        assert "--overwrite" in said
    assert precious.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [precious.name]
    check_page(Path(page), overwrite=True)


def test_edit_writes_a_report_of_itself(capsys, short, tmp_path):
    page = tmp_path / "a.html"
    command = ["edit", str(short), "-o", str(tmp_path / "o.mp4"), "--attr", "smile"]
    assert main([*command, "--report", str(tmp_path / "a.txt")]) == 2
    assert not (tmp_path / "o.mp4").exists()
    assert main([*command, "--report", str(page), "--quiet"]) == 0
    data = json.loads(page.with_suffix(".json").read_text())
    assert data["edit"] == {"smile": 1.0, "method": "fse"}
    assert data["has_inversion"]
    command = ["invert", str(short), "-o", str(tmp_path / "i.mp4"), "--quiet"]
    assert main([*command, "--report", str(tmp_path / "i.html")]) == 0
    assert not json.loads((tmp_path / "i.json").read_text())["has_inversion"]  # it is the output
    capsys.readouterr()


def test_a_damaged_source_is_reported_as_it_was_edited(capsys, source, tmp_path):
    """Cut short: with --on-error skip, edit and report take the same frames."""
    whole = write_clip(tmp_path / "whole.mkv", images_of(source, limit=12))
    cut, page = tmp_path / "cut.mkv", tmp_path / "a.html"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    command = ["edit", str(cut), "-o", str(tmp_path / "o.mkv"), "--attr", "smile", "--quiet"]
    assert main([*command, "--report", str(page)]) != 0
    assert "--on-error skip" in capsys.readouterr().err
    assert main([*command, "--report", str(page), "--on-error", "skip"]) == 0
    frames = json.loads(page.with_suffix(".json").read_text())["source"]["frames"]
    assert 2 < frames < 12
    again = ["report", str(cut), str(tmp_path / "o.mkv"), "-o", str(page), "--overwrite"]
    assert main([*again, "--quiet"]) != 0
    assert main([*again, "--quiet", "--on-error", "skip"]) == 0
    capsys.readouterr()


def test_wrong_requests_are_refused(pack, source, tmp_path):
    with pytest.raises(UsageError, match=r"ends in \.html"):
        write_report(source, source, tmp_path / "a.pdf", pack=pack)
    with pytest.raises(UsageError, match="every must be 1 or more"):
        write_report(source, source, tmp_path / "a.html", pack=pack, every=0)
    with pytest.raises(UsageError, match="two clips or two pictures"):
        write_report(source, tmp_path / "a.png", tmp_path / "a.html", pack=pack)


def test_json_has_no_numbers_that_json_does_not_know(report):
    text = json.dumps(report.as_dict(), allow_nan=False)
    assert math.isfinite(json.loads(text)["summary"]["distance_median"])


def test_an_identity_that_is_wrong_throughout_is_told(pack, shared_dir, tmp_path):
    """Two other people: nothing stands out, for it is the same fault in every frame."""
    source, stranger = (
        write_clip(
            tmp_path / f"{name}.mp4", images_of(shared_dir / "clips" / f"{name}.mp4", limit=6)
        )
        for name in ("expression_512", "greenscreen_512")
    )
    report = write_report(source, stranger, tmp_path / "a.html", pack=pack, inversion=False)
    assert report.standing_out == ()
    assert report.headline().startswith("identity is lost: 6 of 6 sampled faces")
    assert 'class="verdict bad"' in (tmp_path / "a.html").read_text()
    row = IndexRow.of(report, page="a.html")
    assert (row.is_lost, row.like_strangers) == (True, 6)


@pytest.mark.slow
def test_faults_in_a_real_clip_are_on_top(pack, shared_dir, tmp_path):
    source, stranger = (
        shared_dir / "clips" / f"{name}.mp4" for name in ("greenscreen_512", "talk_hand_512")
    )
    edited = tmp_path / "edited.mp4"
    vidinv.edit(source, edited, attributes={"smile": 1}, pack=pack)
    swapped, flickers = range(30, 40), (10, 55, 60)
    faulty = write_faulty_real_clip(
        tmp_path / "faulty.mp4", edited, stranger, swapped=swapped, flickers=flickers
    )
    report = write_report(source, faulty, tmp_path / "a.html", pack=pack, inversion=False)
    found = {item.frame: item.reasons[0] for item in report.standing_out}
    assert set(found) == {*swapped, *flickers}
    assert all(found[frame] == "identity" for frame in swapped)
    plain = write_report(source, edited, tmp_path / "b.html", pack=pack, inversion=False)
    assert plain.standing_out == ()
