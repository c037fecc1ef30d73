"""Latents on disk: a second edit starts from them, and its frames are those of a fresh one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import vidinv
from pipelines.batch.request.jobs import Job, Settings, pack_digest
from pipelines.batch.stages.analyse import AnalyseTask
from pipelines.batch.stages.picture import PictureTask
from pipelines.batch.stages.render import RenderTask
from pipelines.batch.stages.runner import StageRunner
from pipelines.batch.stages.tasks import Completed
from pipelines.clip.plan import SEGMENT_FRAMES, ClipPlan, Segment, load_plan
from pipelines.clip.saved import SavedClip, clip_folder, key_of
from pipelines.demo import make_clip as make_face_clip
from pipelines.edit import run
from pipelines.edit_request import EditRequest
from tests.packs.tiny import GENERATOR, write_tiny_pack
from tests.pipelines.passes import Passes
from tests.video.clips import images_of, packets_of, write_clip
from vidinv.arrays import read_arrays, write_arrays
from vidinv.cli import build_parser
from vidinv.errors import DecodeError, UsageError
from vidinv.inversion.fse import FeatureStyleInverter
from vidinv.latents import PLAN_FILE
from vidinv.packs import Pack, load_pack, write_pack
from vidinv.types import Analysis, EditSpec, FaceTrack, Inversion, RenderMode
from vidinv.video import EncodeOptions, VideoInfo, read_image, write_image

FRAMES = 22
AGE, SMILE = {"age": ((0.0, 0.0), (0.6, 1.0))}, {"smile": ((0.0, 1.0),)}
SEGMENT_NAMES = [f"{number:05d}.safetensors" for number in range(3)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return make_face_clip(load_pack(), path, seconds=FRAMES / 25, size_px=256)


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    """Whose edits take all of the feature code, and none of it."""
    folder = tmp_path_factory.mktemp("packs")
    return {
        scale: load_pack(write_tiny_pack(folder / str(scale), fse={"edit_feature_scale": scale}))
        for scale in (1.0, 0.0)
    }


@pytest.fixture(scope="module")
def fresh(clip, packs, tmp_path_factory):
    """Frames of edits without saved latents."""
    folder = tmp_path_factory.mktemp("fresh")
    return {
        (scale, name): pictures(clip, folder / f"{scale}{name}.mkv", pack, attributes=wish)[1]
        for scale, pack in packs.items()
        for name, wish in (("age", AGE), ("smile", SMILE), ("invert", None))
        if name != "invert" or scale == 0
    }


@pytest.fixture
def kept(clip, packs, tmp_path_factory, tmp_path):
    """A folder that an edit with the second pack left; made once, and copied."""
    made = tmp_path_factory.getbasetemp() / "kept"
    if not made.exists():
        pictures(clip, tmp_path / "first.mkv", packs[0.0], latents=made)
    return Path(shutil.copytree(made, tmp_path / "latents"))


def pictures(clip, output, pack, *, attributes=AGE, latents=None, identity=False, **how):
    """Result and frames, before encoding, of an edit; of an inversion without attributes."""
    mode = RenderMode.INVERT if attributes is None else RenderMode.TRANSFER
    request = EditRequest(
        input=clip,
        output=output,
        pack=pack,
        spec=EditSpec(attributes=attributes or {}, mode=mode, **how),
        encode=EncodeOptions(encoder="ffv1"),
        identity=identity,
        latents=latents,
        segment_frames=8,
    )
    passes = Passes()
    result = run(request, progress=passes)
    return result, [picture for _, picture in passes.seen.get("edit", ())]


class ChangedPack(Pack):
    """Whose inverters ``change`` has seen before they are used."""

    def __init__(self, pack, change):
        super().__init__(pack.files)
        self._change = change

    def inverter(self, *arguments, **how):
        made = super().inverter(*arguments, **how)
        self._change(made)
        return made


def same(a, b) -> bool:
    return len(a) == len(b) > 0 and all(map(np.array_equal, a, b))


def forbid(monkeypatch, *, analysis=True, encoder=True):
    def refuse(*args, **how):
        raise AssertionError("computed again")

    if analysis:
        monkeypatch.setattr("pipelines.clip.session.plan_clip", refuse)
    if encoder:
        monkeypatch.setattr(FeatureStyleInverter, "encode", refuse)


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("scale", [pytest.param(1.0, marks=pytest.mark.slow), 0.0])
def test_a_second_edit_computes_neither_analysis_nor_inversion(
    clip, packs, fresh, tmp_path, monkeypatch, scale
):
    pack, folder = packs[scale], tmp_path / "latents"
    first = pictures(clip, tmp_path / "a.mkv", pack, latents=folder)[1]
    assert same(first, fresh[scale, "age"])
    assert files_of(folder) == [*SEGMENT_NAMES, PLAN_FILE]
    how = {"attributes": SMILE, "identity": True}
    plain, _ = pictures(clip, tmp_path / "plain.mkv", pack, **how)
    forbid(monkeypatch)
    result, second = pictures(clip, tmp_path / "b.mkv", pack, latents=folder, **how)
    assert same(second, fresh[scale, "smile"])
    assert not same(second, first)
    timed = {"output": "", "seconds": 0, "fps": 0, "peak_rss_mb": 0}
    assert {**result.as_dict(), **timed} == {**plain.as_dict(), **timed}
    assert packets_of(tmp_path / "b.mkv", "audio") == packets_of(tmp_path / "plain.mkv", "audio")


def test_inversions_are_shown_from_disk(clip, packs, fresh, tmp_path, monkeypatch):
    folder = tmp_path / "latents"
    for again in (False, True):
        if again:
            forbid(monkeypatch)
        output = tmp_path / f"{again}.mkv"
        seen = pictures(clip, output, packs[0.0], attributes=None, latents=folder)[1]
        assert same(seen, fresh[0.0, "invert"])


def test_latents_without_features_do_not_serve_where_features_are_needed(
    clip, packs, fresh, kept, tmp_path, monkeypatch
):
    assert vidinv.load_latents(kept)[0].codes == {}
    forbid(monkeypatch, encoder=False)
    seen = pictures(clip, tmp_path / "b.mkv", packs[0.0], attributes=None, latents=kept)[1]
    assert same(seen, fresh[0.0, "invert"])
    assert vidinv.load_latents(kept)[0].codes["features"].shape == (FRAMES, 8, 16, 16)
    forbid(monkeypatch)
    seen = pictures(clip, tmp_path / "c.mkv", packs[0.0], latents=kept)[1]
    assert same(seen, fresh[0.0, "age"])


def test_features_are_computed_only_where_they_are_shown(clip, packs, tmp_path):
    def refuse(*args):
        raise AssertionError("feature head")

    def change(inverter):
        inverter.encoder.feature_head.forward = refuse

    all_of_it, none_of_it = (ChangedPack(packs[scale], change) for scale in (1.0, 0.0))
    pictures(clip, tmp_path / "a.mkv", none_of_it)
    with pytest.raises(AssertionError, match="feature head"):
        pictures(clip, tmp_path / "b.mkv", all_of_it)
    with pytest.raises(AssertionError, match="feature head"):
        pictures(clip, tmp_path / "c.mkv", none_of_it, attributes=None)


def test_the_folder_is_a_data_set(kept):
    tracks = vidinv.load_latents(kept)
    assert [(n, t.frames) for n, t in tracks.items()] == [(0, range(FRAMES))]
    latents = tracks[0].latents_TLD
    assert latents.dtype == torch.float32
    assert latents.shape == (FRAMES, GENERATOR.num_ws, GENERATOR.w_dim)
    assert len(latents.unique(dim=0)) == FRAMES
    (kept / SEGMENT_NAMES[1]).unlink()
    with pytest.raises(DecodeError, match="face 0 are not complete"):
        vidinv.load_latents(kept)


def test_a_folder_without_a_plan_is_told_in_one_line(kept):
    (kept / PLAN_FILE).unlink()
    for folder in (kept, kept / "nothing"):
        with pytest.raises(DecodeError, match=f"{folder}: no clip was analysed there"):
            vidinv.load_latents(folder)


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "names"),
    [
        ((flip_a_byte, cut_short, empty), SEGMENT_NAMES),
        ((Path.unlink,), SEGMENT_NAMES[1:2]),
        ((flip_a_byte,), [PLAN_FILE]),
    ],
)
def test_damaged_files_are_computed_again(clip, packs, fresh, kept, tmp_path, harm, names):
    for damage, name in zip(harm, names, strict=True):
        damage(kept / name)
    result, seen = pictures(clip, tmp_path / "b.mkv", packs[0.0], latents=kept)
    assert same(seen, fresh[0.0, "age"])
    said = [name for name in names for text in result.warnings if f"{name} is damaged" in text]
    assert said == (names if harm != (Path.unlink,) else [])
    assert files_of(kept) == [*SEGMENT_NAMES, PLAN_FILE]
    assert len(vidinv.load_latents(kept)[0].frames) == FRAMES


def test_latents_of_another_clip_pack_or_face_are_replaced_and_said(
    clip, packs, fresh, kept, tmp_path
):
    shorter = write_clip(tmp_path / "face.mp4", images_of(clip)[3:])
    steps = [
        ("clip", shorter, packs[0.0], {}),
        ("clip, networks", clip, changed_networks(packs[0.0], tmp_path / "pack"), {}),
        ("networks, face", clip, packs[0.0], {"face": "all", "seed": 1}),
    ]
    for number, (what, source, pack, how) in enumerate(steps):
        output = tmp_path / f"{number}.mkv"
        result, seen = pictures(source, output, pack, latents=kept, **how)
        assert result.warnings == (f"{kept} was made with another {what}: it is not used",)
        assert len(vidinv.load_latents(kept)[0].frames) == len(seen)
        assert same(seen, fresh[0.0, "age"]) == (pack is packs[0.0] and source is clip)


def test_a_seed_that_decides_nothing_leaves_the_latents_of_use(clip, packs):
    keys = [
        key_of(clip, pack=packs[0.0], spec=EditSpec(seed=seed), segment_frames=8) for seed in (0, 1)
    ]
    assert keys[0] == keys[1]


def test_a_seed_that_decides_nothing_is_no_other_configuration():
    settings = [Settings("pack", "1234", seed=seed).digest() for seed in (0, 1)]
    assert settings[0] == settings[1]


def of_another_layout(path: Path, version: str | None) -> None:
    """As another version might have written it: whole, with other names in it."""
    arrays, facts = read_arrays(path)
    if version is not None:
        facts["key"]["version"] = version
    for name in ("num_tracks", "first_frames"):
        facts.pop(name, None)
    write_arrays(path, {f"new.{name}": array for name, array in arrays.items()}, facts)


@pytest.mark.parametrize(
    ("names", "version", "said"),
    [
        ([PLAN_FILE], "0.0.9/0", "was made with another version: it is not used"),
        (SEGMENT_NAMES, "9.0/2", "is of another run: it is computed again"),
        ([PLAN_FILE], None, "plan.safetensors is of another layout (KeyError: 'times_T2')"),
        (SEGMENT_NAMES, None, "is of another layout (KeyError: 'first_frames')"),
    ],
)
def test_other_layouts_are_computed_again(clip, packs, fresh, kept, tmp_path, names, version, said):
    for name in names:
        of_another_layout(kept / name, version)
    with pytest.raises(DecodeError, match="not complete" if version and names[1:] else "layout"):
        vidinv.load_latents(kept)
    result, seen = pictures(clip, tmp_path / "b.mkv", packs[0.0], latents=kept)
    assert same(seen, fresh[0.0, "age"])
    assert len(result.warnings) == len(names)
    assert all(said in text for text in result.warnings)
    assert len(vidinv.load_latents(kept)[0].frames) == FRAMES


def test_what_is_another_is_said_of_keys_with_more_in_them(clip, kept):
    arrays, facts = read_arrays(kept / PLAN_FILE)
    key = dict(facts["key"])
    write_arrays(kept / PLAN_FILE, arrays, {**facts, "key": {**key, "tiles": 2}})
    saved = SavedClip(kept, key)
    assert saved.plan(clip) is None
    assert saved.notes == [f"{kept} was made with another tiles: it is not used"]


def test_a_folder_in_the_place_of_the_plan_is_refused_before_the_work(
    clip, packs, kept, tmp_path, monkeypatch
):
    (kept / PLAN_FILE).unlink()
    (kept / PLAN_FILE).mkdir()
    with pytest.raises(DecodeError, match=r"plan\.safetensors cannot be read"):
        vidinv.load_latents(kept)
    forbid(monkeypatch)
    with pytest.raises(UsageError, match=r"plan\.safetensors is a folder: move it away"):
        pictures(clip, tmp_path / "b.mkv", packs[0.0], latents=kept)


def changed_networks(pack, folder):
    """The same pack with another encoder."""
    names = ("generator.safetensors", "fse.safetensors", "directions.safetensors")
    tensors = {name: pack.files.tensors(name) for name in names}
    tensors[names[1]] = {key: value * 1.01 for key, value in tensors[names[1]].items()}
    write_pack(
        folder, {k: v for k, v in pack.meta.items() if k not in ("files", "format")}, tensors
    )
    return load_pack(folder)


def test_other_directions_leave_the_latents_of_use(packs, tmp_path):
    entries = packs[0.0].meta["directions"]["entries"]
    fewer = {"file": "directions.safetensors", "entries": {"age": entries["age"]}}
    folder = write_tiny_pack(tmp_path / "p", directions=fewer, fse={"edit_feature_scale": 0.0})
    other = load_pack(folder)
    assert pack_digest(other.meta) != pack_digest(packs[0.0].meta)
    assert other.inversion_digest("fse") == packs[0.0].inversion_digest("fse")


def test_a_moved_clip_is_known_and_read_where_it_lies(clip, kept, tmp_path):
    moved = Path(shutil.copy(clip, tmp_path / "moved.mp4"))
    plan = load_plan(kept / PLAN_FILE)
    assert plan.info.path == str(clip)
    recalled = SavedClip(kept, plan.key).plan(moved)
    assert recalled.info == dataclasses.replace(plan.info, path=str(moved))


def test_an_interrupted_run_leaves_whole_segments_only(clip, packs, fresh, tmp_path, monkeypatch):
    folder, calls = tmp_path / "latents", []

    def change(inverter):
        encode = inverter.encode

        def interrupted(*args, **how):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return encode(*args, **how)

        inverter.encode = interrupted

    with pytest.raises(KeyboardInterrupt):
        pictures(clip, tmp_path / "a.mkv", ChangedPack(packs[1.0], change), latents=folder)
    assert files_of(folder) == [*SEGMENT_NAMES[:2], PLAN_FILE]
    forbid(monkeypatch, encoder=False)
    seen = pictures(clip, tmp_path / "b.mkv", packs[1.0], latents=folder)[1]
    assert same(seen, fresh[1.0, "age"])
    assert files_of(folder) == [*SEGMENT_NAMES, PLAN_FILE]


def test_strength_zero_keeps_nothing_and_uses_what_is_there(
    clip, packs, kept, tmp_path, monkeypatch
):
    def zero(name, folder):
        spec, output = EditSpec({"age": ((0.0, 0.0),)}), tmp_path / name
        return run(EditRequest(clip, output, packs[0.0], spec, latents=folder, segment_frames=8))

    first = zero("0.mp4", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    forbid(monkeypatch)
    second = zero("1.mp4", kept)
    assert second.warnings == first.warnings
    assert (second.frames, second.faces_edited) == (FRAMES, 0)
    assert (tmp_path / "1.mp4").read_bytes() == (tmp_path / "0.mp4").read_bytes()
    assert files_of(kept) == [*SEGMENT_NAMES, PLAN_FILE]


def test_a_faceless_clip_keeps_its_plan(packs, tmp_path, monkeypatch):
    grey = write_clip(tmp_path / "grey.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 10)
    folder = tmp_path / "latents"
    request = EditRequest(grey, tmp_path / "0.mp4", packs[0.0], EditSpec(AGE), latents=folder)
    first = run(request)
    assert files_of(folder) == [PLAN_FILE]
    assert vidinv.load_latents(folder) == {}
    forbid(monkeypatch)
    second = run(dataclasses.replace(request, output=tmp_path / "1.mp4"))
    assert (second.frames, second.warnings) == (first.frames, first.warnings)


def test_a_picture_has_latents_too(clip, packs, tmp_path, monkeypatch):
    still, folder = tmp_path / "face.png", tmp_path / "latents"
    write_image(still, images_of(clip, limit=1)[0])
    how = {"attributes": {"smile": 1.0}, "pack": packs[1.0]}
    vidinv.edit(still, tmp_path / "a.png", latents=folder, **how)
    assert vidinv.load_latents(folder / "face.png.latents")[0].frames == range(1)
    forbid(monkeypatch)
    vidinv.edit(still, tmp_path / "b.png", latents=folder, **how)
    assert np.array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png"))
    stages = make_stages(packs[1.0], folder, segment_frames=SEGMENT_FRAMES)
    job = Job(str(still), "face.png", SMILE)
    done = stages.run(PictureTask(job, tmp_path / "w", tmp_path / "c.png"))
    assert isinstance(done, Completed), done
    assert np.array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "c.png"))


def test_a_file_in_the_way_is_refused_before_the_work(clip, packs, tmp_path, monkeypatch):
    (tmp_path / "face.mp4.latents").write_bytes(b"precious")
    forbid(monkeypatch)
    with pytest.raises(UsageError, match="is a file"):
        vidinv.edit(
            clip, tmp_path / "o.mp4", attributes={"age": 1}, pack=packs[0.0], latents=tmp_path
        )
    assert (tmp_path / "face.mp4.latents").read_bytes() == b"precious"


def made_up_plan(tracks) -> ClipPlan:
    faces = tuple(
        FaceTrack(
            number,
            0,
            first,
            np.zeros((last - first + 1, 68, 2), np.float32),
            np.zeros((last - first + 1, 4)),
            np.ones(last - first + 1, bool),
        )
        for number, first, last in tracks
    )
    info = VideoInfo.from_scratch(width=64, height=64, rate=25)
    segments = (
        Segment(0, 0, 0, 15, 23),
        Segment(1, 8, 16, 23, 30),
        Segment(2, 16, 24, 30, 30),
    )
    analysis = Analysis(31, ((0, 30),), faces)
    return ClipPlan(info, analysis, np.zeros((31, 2), np.int64), True, 2, segments)


@pytest.mark.parametrize("rows", [1, 6])
def test_every_face_of_every_chunk_comes_back_as_it_was(tmp_path, rows):
    """Faces that come and go inside segments, codes in W and in W+."""
    torch.manual_seed(0)
    spans = {0: range(14), 3: range(5, 31)}
    plan = made_up_plan([(n, span.start, span.stop - 1) for n, span in spans.items()])
    saved = SavedClip(tmp_path / "c.latents", {"clip": "x"})
    store, made = saved.inversions(plan, {}, {}), {}
    for start in range(0, 31, 8):
        for number, span in spans.items():
            frames = range(max(start, span.start), min(start + 8, span.stop, 31))
            if frames:
                count = len(frames)
                latents = torch.randn(count, rows, 4).expand(-1, 6, -1)
                features = torch.randn(count, 3, 2, 2)
                made[number, frames] = Inversion(latents, {"features": features})
                assert store.get(number, frames, codes={"features"}) is None
                store.put(number, frames, made[number, frames])
        # A segment is on disk as soon as its last frame is done: memory holds no more than that.
        assert len(list(saved.folder.glob("0*"))) == (start + 8 >= 16) + (start >= 16) + (
            start > 16
        )
    store = saved.inversions(plan, {}, {})
    for (number, frames), inversion in made.items():
        found = store.get(number, frames, codes={"features"})
        assert torch.equal(found.latents_NLD, inversion.latents_NLD)
        assert torch.equal(found.codes["features"], inversion.codes["features"])
        assert store.get(number, frames, codes=set()).codes == {}
    other = SavedClip(saved.folder, {"clip": "y"})
    assert other.inversions(plan, {}, {}).get(0, range(8), codes=set()) is None
    assert "is of another run" in other.notes[0]


def make_stages(pack, latents=None, **changes) -> StageRunner:
    settings = Settings(
        str(pack.folder),
        pack_digest(pack.meta),
        encode=EncodeOptions(encoder="ffv1", threads=1),
        segment_frames=8,
        latents=latents and str(latents),
    )
    return StageRunner(dataclasses.replace(settings, **changes))


def run_stages(stages, clip, folder, wish):
    job = Job(str(clip), "sub/face.mkv", wish)
    analysed = stages.run(AnalyseTask(job, folder))
    numbers = range(len(analysed.result.segment_frames))
    # Last segments first: they need frames of those before.
    rendered = [stages.run(RenderTask(job, folder, n)) for n in reversed(numbers)]
    all_done = [analysed, *rendered]
    assert [type(done) for done in all_done] == [Completed] * 4, all_done
    files = [folder / done.result.file for done in reversed(rendered)]
    frames = [image for path in files for image in images_of(path)]
    return frames, [note for done in all_done for note in done.notes]


def test_batch_keeps_latents_and_starts_from_them(clip, packs, tmp_path, monkeypatch):
    stages = make_stages(packs[1.0], tmp_path / "latents")
    plain = make_stages(packs[1.0])
    run_stages(stages, clip, tmp_path / "w0", AGE)
    folder = tmp_path / "latents" / "sub" / "face.mkv.latents"
    assert files_of(folder) == [*SEGMENT_NAMES, PLAN_FILE]
    expected, _ = run_stages(plain, clip, tmp_path / "w1", SMILE)
    forbid(monkeypatch)
    frames, notes = run_stages(stages, clip, tmp_path / "w2", SMILE)
    assert same(frames, expected)
    assert notes == []
    plans = [load_plan(f / PLAN_FILE) for f in (folder, tmp_path / "w2", tmp_path / "w1")]
    assert len({(plan.segments, plan.exact_times, plan.info) for plan in plans}) == 1


def test_batch_takes_the_latents_of_edit_and_says_what_it_does_not_use(
    clip, packs, kept, tmp_path, monkeypatch
):
    folder = clip_folder(tmp_path / "latents of all", "sub/face.mkv")
    shutil.copytree(kept, folder)
    flip_a_byte(folder / SEGMENT_NAMES[2])
    stages = make_stages(packs[0.0], tmp_path / "latents of all")
    forbid(monkeypatch, encoder=False)
    _, notes = run_stages(stages, clip, tmp_path / "w", SMILE)
    assert [note.split(";")[1] for note in notes] == [" it is computed again"]
    forbid(monkeypatch)
    assert run_stages(stages, clip, tmp_path / "w", SMILE)[1] == []
    job = Job(str(clip), "sub/face.mkv", SMILE)
    other = make_stages(packs[0.0], tmp_path / "latents of all", segment_frames=9)
    monkeypatch.undo()
    done = other.run(AnalyseTask(job, tmp_path / "w2"))
    assert done.notes == (f"{folder} was made with another segment_frames: it is not used",)
    assert files_of(folder) == [PLAN_FILE]


@pytest.mark.parametrize("before", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_resumed_run_may_add_latents(clip, packs, tmp_path, monkeypatch, before):
    """Segments rendered before it are not in there; the next run computes these only."""
    latents, work = tmp_path / "latents", tmp_path / "w"
    folder = latents / "sub" / "face.mkv.latents"
    if before:  # a complete set of another configuration, with more segments
        run_stages(make_stages(packs[0.0], latents, segment_frames=9), clip, tmp_path / "w0", AGE)
        shutil.copy(folder / SEGMENT_NAMES[2], folder / "00003.safetensors")
    job = Job(str(clip), "sub/face.mkv", AGE)
    plain = make_stages(packs[0.0])
    for task in (AnalyseTask(job, work), RenderTask(job, work, 0), RenderTask(job, work, 1)):
        assert isinstance(plain.run(task), Completed)
    resumed = make_stages(packs[0.0], latents)
    # It begins eight frames before its own: all of those of the second segment.
    done = resumed.run(RenderTask(job, work, 2))
    assert any("made with another segment_frames" in note for note in done.notes) == before
    assert files_of(folder) == [*SEGMENT_NAMES[not before :], PLAN_FILE]
    with pytest.raises(DecodeError, match="face 0 are not complete"):
        vidinv.load_latents(folder)
    forbid(monkeypatch, encoder=False)
    calls, encode = [], FeatureStyleInverter.encode
    monkeypatch.setattr(
        FeatureStyleInverter, "encode", lambda *args, **how: calls.append(1) or encode(*args, **how)
    )
    run_stages(resumed, clip, tmp_path / "w2", AGE)
    assert len(calls) == 1  # eight frames of the first segment
    assert vidinv.load_latents(folder)[0].frames == range(FRAMES)
    assert len(files_of(folder)) == 4


def test_two_workers_may_add_latents_at_one_time(tmp_path):
    plan = dataclasses.replace(made_up_plan([(0, 0, 30)]), key={"clip": "x"})
    folder = tmp_path / "c.latents"
    other = SavedClip(folder, {"clip": "y"})
    other.keep(dataclasses.replace(plan, key=other.key))
    fill(other, plan, range(31))

    class Overtaken(SavedClip):
        """Another worker does all of its work between the look and what comes of it."""

        def plan(self, clip):
            found = super().plan(clip)
            second = SavedClip(folder, plan.key)
            second.join(plan)
            fill(second, plan, range(16, 24))
            return found

    Overtaken(folder, plan.key).join(plan)
    first = SavedClip(folder, plan.key)
    for frames in (range(16), range(24, 31)):
        fill(first, plan, frames)
    latents = vidinv.load_latents(folder)[0].latents_TLD
    assert latents[:, 0, 0].tolist() == list(range(31))


def fill(saved, plan, frames):
    codes = torch.tensor(frames, dtype=torch.float32)[:, None, None].expand(-1, 6, 4)
    store = saved.inversions(plan, {}, {})
    for segment in plan.segments:
        span = range(max(segment.first, frames.start), min(segment.last + 1, frames.stop))
        if span:
            rows = codes[span.start - frames.start : span.stop - frames.start]
            store.put(0, span, Inversion(rows))


def test_the_folder_of_latents_is_no_other_configuration(packs):
    settings = Settings("pack", "1234")
    other = dataclasses.replace(settings, latents="/elsewhere")
    assert other.digest() == settings.digest()
    assert Settings.from_json(other.to_json()) == other


def test_a_reference_picture_is_known_by_what_is_in_it(clip, packs, tmp_path):
    def key(face):
        return key_of(clip, pack=packs[0.0], spec=EditSpec(face=str(face)), segment_frames=8)

    a, b = tmp_path / "a.png", tmp_path / "b.png"
    write_image(a, np.zeros((8, 8, 3), np.uint8))
    b.write_bytes(a.read_bytes())
    assert key(a) == key(b)
    write_image(b, np.ones((8, 8, 3), np.uint8))
    assert key(a) != key(b)


@pytest.mark.parametrize("command", ["edit", "invert", "batch"])
def test_the_option_is_there(command):
    options = build_parser().parse_args([command, "a.mp4", "-o", "o", "--latents", "kept"])
    assert options.latents == Path("kept")
