"""Segments: where they begin, and that their frames are those of a one-process run, bit for bit."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

import vidinv
from pipelines.batch.request.jobs import Job, Settings, pack_digest
from pipelines.batch.stages.analyse import AnalyseTask
from pipelines.batch.stages.join import JoinTask
from pipelines.batch.stages.render import RenderTask
from pipelines.batch.stages.runner import StageRunner
from pipelines.batch.stages.tasks import Completed, Failure
from pipelines.clip.plan import load_plan, plan_segments, save_plan
from pipelines.clip.session import ClipSession
from tests.packs.green_parsing import KIND, GreenParser, write_parsing_pack
from tests.pipelines.batch.conftest import FRAMES
from tests.video.clips import comment_of, images_of, packets_of, plain_times, write_clip
from vidinv.composing import FrameComposer
from vidinv.latents import PLAN_FILE
from vidinv.networks.registry import NETWORKS
from vidinv.packs import load_pack
from vidinv.provenance import credentials, is_edit_comment, read_credentials
from vidinv.types import EditSpec, RenderMode, TimeRange
from vidinv.video import EncodeOptions, open_reader
from vidinv.video.reader import Part

KEYS = ((0.0, 0.0), (0.6, 1.5))


@pytest.mark.parametrize("target", [1, 8, 20, 45, 500])
@pytest.mark.parametrize("chunk", [1, 2, 8])
def test_segments_tile_the_clip_and_begin_with_a_chunk(target, chunk):
    shots = ((0, 29), (30, 32), (33, 99))
    segments = plan_segments(shots, chunk_frames=chunk, target_frames=target, halo_frames=4)
    frames = [f for s in segments for f in range(s.first, s.last + 1)]
    assert frames == list(range(100))
    assert [s.number for s in segments] == list(range(len(segments)))
    assert max(s.num_frames for s in segments) <= target + 2 * chunk
    for segment in segments:
        start = next(first for first, last in shots if first <= segment.first <= last)
        final, end = next(shot for shot in shots if shot[0] <= segment.last <= shot[1])
        assert (segment.first - start) % chunk == 0
        assert (segment.lead - start) % chunk == 0
        # The whole halo, or the whole shot so far.
        assert segment.lead == start or segment.first - segment.lead >= 4
        assert segment.tail == end or segment.tail - segment.last >= 4
        assert segment.tail == end or (segment.tail + 1 - final) % chunk == 0


@pytest.fixture
def stages(tiny_pack):
    return make_stages(tiny_pack)


def make_stages(folder, **changes):
    pack = load_pack(folder)
    encode = EncodeOptions(encoder="ffv1", threads=1)
    settings = Settings(str(folder), pack_digest(pack.meta), encode=encode, segment_frames=8)
    return StageRunner(dataclasses.replace(settings, **changes))


def run_stages(stages, clip, folder, output, **how):
    job = Job(str(clip), output.name, how.pop("attributes", {"age": KEYS}), **how)
    analysed = result_of(stages, AnalyseTask(job, folder))
    numbers = range(len(analysed.segment_frames))
    files = tuple(result_of(stages, RenderTask(job, folder, number)).file for number in numbers)
    return analysed, result_of(stages, JoinTask(job, folder, output, files))


def result_of(stages, task):
    done = stages.run(task)
    assert isinstance(done, Completed), done
    return done.result


def test_frames_before_encoding_are_those_of_edit(face_clip, tiny_pack, stages, tmp_path):
    expected = pictures_of_edit(face_clip, tiny_pack, tmp_path / "edit.mkv")
    analysed, _ = run_stages(stages, face_clip, tmp_path / "w", tmp_path / "b.mkv")
    pictures = {}
    for number in range(len(analysed.segment_frames)):
        pictures |= pictures_of_segment(stages, face_clip, tmp_path / "w", number)
    assert sorted(pictures) == sorted(expected) == list(range(FRAMES))
    assert all(np.array_equal(pictures[n], expected[n]) for n in expected)


def test_a_range_is_that_of_edit(face_clip, tiny_pack, tmp_path):
    stages = make_stages(tiny_pack, within=TimeRange(0.3, 0.7))
    expected = pictures_of_edit(face_clip, tiny_pack, tmp_path / "e.mkv", start=0.3, end=0.7)
    analysed, joined = run_stages(stages, face_clip, tmp_path / "w", tmp_path / "b.mkv")
    assert (joined.frames, joined.faces_edited) == (FRAMES, 10)
    pictures = {}
    for number in range(len(analysed.segment_frames)):
        pictures |= pictures_of_segment(stages, face_clip, tmp_path / "w", number)
    assert sorted(pictures) == sorted(expected) == list(range(FRAMES))
    assert all(np.array_equal(pictures[n], expected[n]) for n in expected)


def test_what_is_in_front_of_a_face_stays_there_in_segments_as_in_edit(
    face_clip, tmp_path, monkeypatch
):
    monkeypatch.setitem(NETWORKS["parsing"], KIND, GreenParser)
    folder, clip = write_parsing_pack(tmp_path / "pack"), tmp_path / "bar.mkv"
    images = images_of(face_clip)
    for number, image in enumerate(images):  # a bar that passes over the chin
        image[170:200, 60 + 4 * number : 130 + 4 * number] = (0, 230, 0)
    write_clip(clip, images, encoder="ffv1")
    sources = images_of(clip)
    stages, output = make_stages(folder), tmp_path / "edit.mkv"
    expected = pictures_of_edit(clip, folder, output)
    analysed = result_of(stages, AnalyseTask(Job(str(clip), "b.mkv", {"age": KEYS}), tmp_path))
    pictures = {}
    for number in range(len(analysed.segment_frames)):
        pictures |= pictures_of_segment(stages, clip, tmp_path, number)
    assert all(np.array_equal(pictures[n], expected[n]) for n in range(FRAMES))
    how = {"occlusion": "off", "max_frames": 10, "overwrite": True}
    bent, n = pictures_of_edit(clip, folder, output, **how), 9
    # Inside what two pixels of a 32 px crop, enlarged to this face, reach from the bar's ends.
    bar = slice(180, 190), slice(75 + 4 * n, 115 + 4 * n)
    assert np.abs(expected[n][bar].astype(int) - sources[n][bar]).max() <= 1
    assert np.abs(bent[n][bar].astype(int) - sources[n][bar]).max() > 3
    beside = slice(110, 160), slice(90, 166)
    assert np.abs(expected[n][beside].astype(int) - sources[n][beside]).mean() > 0.3


def test_a_joined_clip_is_signed_where_that_is_wanted(face_clip, tiny_pack, tmp_path, monkeypatch):
    if not credentials.is_installed():
        pytest.skip("needs c2pa-python: pip install -e '.[credentials]'")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(credentials.SWITCH, "on")
    stages = make_stages(tiny_pack, encode=EncodeOptions(threads=1), segment_frames=50)
    output = tmp_path / "out" / "b.mp4"
    run_stages(stages, face_clip, tmp_path / "w", output)
    found = read_credentials(output)
    made_from = found["manifests"][found["active_manifest"]]["ingredients"]
    assert [source["title"] for source in made_from] == [face_clip.name]
    assert os.listdir(output.parent) == ["b.mp4"]


def pictures_of_edit(clip, pack, output, **how):
    pictures = {}
    process = FrameComposer.process

    def watched(self, chunks):
        for frame, picture in process(self, chunks):
            pictures[frame.index] = picture
            yield frame, picture

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FrameComposer, "process", watched)
        vidinv.edit(clip, output, attributes={"age": KEYS}, pack=pack, **how)
    return pictures


def pictures_of_segment(stages, clip, folder, number):
    plan = load_plan(folder / PLAN_FILE)
    segment = plan.segments[number]
    job = Job(str(clip), "o.mkv", {"age": KEYS})
    with stages.open(job, part=plan.part(segment)) as reader:
        composed = stages.session(job, plan.key).render(plan, segment, reader, {})
        return {frame.index: picture for frame, picture in composed}


def test_joined_segments_are_the_output_of_edit(face_clip, tiny_pack, stages, tmp_path):
    whole, joined = tmp_path / "edit.mkv", tmp_path / "joined.mkv"
    options = EncodeOptions(encoder="ffv1")
    result = vidinv.edit(face_clip, whole, attributes={"age": KEYS}, pack=tiny_pack, encode=options)
    analysed, row = run_stages(stages, face_clip, tmp_path / "w", joined)
    assert analysed.segment_frames == (8, 8, 6)
    pairs = zip(images_of(joined), images_of(whole), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert plain_times(joined) == plain_times(whole)
    assert packets_of(joined) == packets_of(whole)
    assert packets_of(joined)
    assert (row.frames, row.faces_edited) == (result.frames, result.faces_edited)
    assert row.row_fields()["synthetic"]
    assert is_edit_comment(comment_of(whole))
    assert comment_of(joined) == comment_of(whole)
    assert row.identity == result.identity
    assert [t.last for t in row.tracks] == [t.last for t in result.tracks]


def test_edit_and_batch_say_alike_that_an_edit_fades_away(
    face_clip, tiny_pack, stages, tmp_path, monkeypatch
):
    monkeypatch.setattr("vidinv.faces.confidence.PROFILE", (0.6, 0.7))  # all faces are profiles
    clip = write_clip(tmp_path / "short.mp4", images_of(face_clip, limit=4))
    said = (
        "face 0 is hardly edited in frames 0 to 3: there mostly seen from the side, or not at all"
    )
    wish = {"attributes": {"age": ((0.0, 1.0),)}}
    edited = vidinv.edit(clip, tmp_path / "e.mp4", pack=tiny_pack, **wish)
    assert edited.warnings == (said,)
    _, row = run_stages(stages, clip, tmp_path / "w", tmp_path / "b.mkv", **wish)
    assert row.warnings == (said,)
    inverting = ClipSession(clip, EditSpec(mode=RenderMode.INVERT), stages.networks)
    plan = load_plan(tmp_path / "w" / PLAN_FILE)
    assert inverting.summary(plan, [], []).warnings == ()  # pasted in full


def test_no_detail_and_other_strengths_change_the_frames(face_clip, tiny_pack, tmp_path):
    """The comparison above would notice a difference."""
    outputs = []
    for number, changes in enumerate([{}, {"detail": False}]):
        output = tmp_path / f"{number}.mkv"
        run_stages(make_stages(tiny_pack, **changes), face_clip, tmp_path / str(number), output)
        outputs.append(images_of(output)[-1])
    assert not np.array_equal(*outputs)


def test_a_faceless_clip_is_copied(stages, tmp_path):
    clip = write_clip(tmp_path / "grey.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 10, audio=True)
    analysed, row = run_stages(stages, clip, tmp_path / "w", tmp_path / "o.mp4")
    assert analysed.segment_frames == ()
    assert any("no face" in warning for warning in row.warnings)
    assert packets_of(tmp_path / "o.mp4", "video") == packets_of(clip, "video")


@pytest.mark.parametrize(
    "attributes", [pytest.param({"age": KEYS}, marks=pytest.mark.slow), {"age": ((0.0, 0.0),)}]
)
def test_long_joins_and_copies_show_that_they_go_on(face_clip, stages, tmp_path, attributes):
    stages = StageRunner(stages.settings, join_worker="tests.video.slow_encode_worker")
    run_stages(stages, face_clip, tmp_path / "w", tmp_path / "o.mkv", attributes=attributes)
    assert stages.beats >= 5


@pytest.mark.parametrize("attributes", [{"age": KEYS}, {"age": ((0.0, 0.0),)}])
def test_what_a_killed_worker_left_beside_an_output_is_removed(
    face_clip, stages, tmp_path, attributes
):
    output = tmp_path / "out" / "o[1].mkv"
    check_leftovers(
        output, lambda: run_stages(stages, face_clip, tmp_path / "w", output, attributes=attributes)
    )


def check_leftovers(output, make):
    """Its own are removed, files of other names are not."""
    output.parent.mkdir()
    name = output.name
    ours, others = (
        f".{name}.0123abcd.part",
        {
            f".{name}.0123abc.part",
            f".{name}.0123abcg.part",
            f".{name}.0123abcd.part.mkv",
            f".x{name}.0123abcd.part",
            ".o1.mkv.0123abcd.part",
        },
    )
    for path in (ours, *others):
        (output.parent / path).write_bytes(b"part")
    make()
    assert {path.name for path in output.parent.iterdir()} == {name, *others}


def test_a_long_way_to_a_segment_shows_that_it_goes_on(face_clip, stages):
    job, slow = Job(str(face_clip), "o.mp4", {}), "tests.video.slow_worker"
    with stages.open(job, part=Part(12, 1), worker=slow) as reader:
        assert [frame.index for frame in reader] == [12]
    assert stages.beats >= 10


def test_strength_zero_is_copied_and_said(face_clip, stages, tmp_path):
    zero = {"age": ((0.0, 0.0),)}
    _, row = run_stages(stages, face_clip, tmp_path / "w", tmp_path / "o.mp4", attributes=zero)
    assert row.warnings == ("every strength is 0: the input was copied unchanged",)
    assert packets_of(tmp_path / "o.mp4", "video") == packets_of(face_clip, "video")


def test_a_damaged_clip_is_a_row(face_clip, stages, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(face_clip.read_bytes()[:3000])
    job = Job(str(broken), "o.mp4", {"age": KEYS})
    failure = stages.run(AnalyseTask(job, tmp_path / "w"))
    assert isinstance(failure, Failure)
    assert (failure.retry, failure.file) == (False, str(broken))
    assert "broken.mp4" in failure.cause
    assert not (tmp_path / "w").exists()


def test_what_cannot_be_written_is_found_out_before_frames_are_rendered(
    face_clip, tiny_pack, tmp_path
):
    """Odd sizes are only one of the reasons, but one that is easily made."""
    clip = write_clip(tmp_path / "odd.mkv", odd_pictures(face_clip), pix_fmt="yuv444p")
    stages = make_stages(tiny_pack, encode=EncodeOptions(encoder="libsvtav1"))
    failure = stages.run(AnalyseTask(Job(str(clip), "o.mp4", {"age": KEYS}), tmp_path / "w"))
    assert isinstance(failure, Failure)
    assert failure.cause.startswith("o.mp4: encoder libsvtav1 has no pixel format for a ")
    assert os.listdir(tmp_path / "w") == []


def odd_pictures(clip):
    with open_reader(clip) as reader:
        return [np.ascontiguousarray(frame.image[:-1, :-1]) for frame in reader][:9]


def test_a_clip_that_changed_after_its_analysis_is_a_row(face_clip, stages, tmp_path):
    clip, folder = tmp_path / "c.mp4", tmp_path / "w"
    clip.write_bytes(face_clip.read_bytes())
    run_stages(stages, clip, folder, tmp_path / "o.mkv")
    with open_reader(clip) as reader:
        images = [frame.image for frame in reader][:9]
    write_clip(clip, images)
    job = Job(str(clip), "o.mkv", {"age": KEYS})
    failure = stages.run(RenderTask(job, folder, 2))
    assert isinstance(failure, Failure)
    assert "was changed since" in failure.cause
    assert not list(folder.glob("*.part"))


def test_a_plan_survives_its_file(face_clip, stages, tmp_path):
    run_stages(stages, face_clip, tmp_path / "w", tmp_path / "o.mkv")
    plan = load_plan(tmp_path / "w" / PLAN_FILE)
    save_plan(tmp_path / "again.safetensors", plan)
    again = load_plan(tmp_path / "again.safetensors")
    assert (again.info, again.segments, again.exact_times) == (plan.info, plan.segments, True)
    assert np.array_equal(again.times_T2, plan.times_T2)
    (a,), (b,) = again.analysis.tracks, plan.analysis.tracks
    assert np.array_equal(a.landmarks_T682, b.landmarks_T682)
    assert np.array_equal(a.embedding, b.embedding)
