"""The interface of methods: the registry, states on disk, and a method that uses all of it."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from pipelines.batch.stages.fit import load_states
from pipelines.clip.networks import Networks
from pipelines.clip.plan import plan_segments
from pipelines.clip.session import ClipSession
from pipelines.edit import run
from pipelines.edit_request import EditRequest
from tests.inversion.toy import ToyInverter
from tests.packs.tiny import write_tiny_pack
from tests.test_rendering import frames, track
from tests.video.clips import images_of
from vidinv.errors import DecodeError, UnknownNameError, UsageError
from vidinv.inversion import METHODS, TrackState, find_method
from vidinv.inversion.registry import MethodEntry
from vidinv.packs import load_pack
from vidinv.rendering import FaceEditor, chunked
from vidinv.types import EditSpec, RenderMode
from vidinv.video import EncodeOptions, open_reader

FRAMES = 40
SHOTS = [(0, 39)]
AGE = {"age": ((0.0, 1.0),)}


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    entry = MethodEntry("toy", "for tests", "tests.inversion.toy:ToyInverter")
    monkeypatch.setitem(METHODS, "toy", entry)
    for calls in (ToyInverter.fits, ToyInverter.encodes):
        calls.clear()


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return load_pack(write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    from pipelines.demo import make_clip

    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return make_clip(load_pack(), path, seconds=FRAMES / 25, size_px=256, tone=False)


def edit(clip, output, pack, *, latents=None, mode=RenderMode.PASTE, method="toy"):
    spec = EditSpec(AGE, method=method, mode=mode)
    encode = EncodeOptions(encoder="ffv1")
    return run(
        EditRequest(
            clip,
            output,
            pack,
            spec,
            encode=encode,
            latents=latents,
            identity=False,
            segment_frames=16,
        )
    )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_of_the_table_is_what_it_says(name):
    method = find_method(name)
    assert method.name == name
    assert METHODS[name].summary
    assert method.chain_chunks >= 1
    assert method.sample_frames >= 0


def test_an_unknown_method_lists_those_that_there_are():
    with pytest.raises(UnknownNameError, match="unknown method 'fsr'; there are: fse"):
        find_method("fsr")


def test_methods_without_weights_work_with_every_pack(pack):
    assert "toy" in pack.methods
    assert isinstance(pack.inverter("toy"), ToyInverter)
    assert pack.inversion_digest("toy") != pack.inversion_digest("fse")


def test_a_state_is_found_again_by_its_content(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "number": torch.tensor(2.5)}
    state = TrackState("toy", tensors, {"frames": 3})
    path = state.save(tmp_path)
    again = TrackState.load(tmp_path, state.digest)
    assert again.digest == state.digest
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in tensors.items())
    assert (again.method, again.facts) == ("toy", {"frames": 3})
    others = [
        TrackState("other", state.tensors, state.facts),
        TrackState("toy", state.tensors, {"frames": 4}),
        TrackState("toy", {"b": tensors["a"], "number": tensors["number"]}, state.facts),
        TrackState("toy", {**tensors, "a": tensors["a"].reshape(3, 2)}, state.facts),
        TrackState("toy", {**tensors, "a": tensors["a"] + 1}, state.facts),
    ]
    assert len({state.digest, *(other.digest for other in others)}) == 6
    path.rename(path.with_name(path.name.replace(state.digest, others[0].digest)))
    with pytest.raises(DecodeError, match="another state than its name says"):
        TrackState.load(tmp_path, others[0].digest)


def test_a_state_of_another_method_is_refused(pack):
    toy = pack.inverter("toy")
    with pytest.raises(UsageError, match="toy needs the state that it fitted to the person, got"):
        toy.encode(torch.zeros(1, 3, 32, 32), TrackState("other", {}))


def test_each_track_is_fitted_once_and_the_states_are_kept(clip, pack, tmp_path):
    folder = tmp_path / "kept"
    edit(clip, tmp_path / "a.mkv", pack, latents=folder)
    assert ToyInverter.fits == [3]
    assert ToyInverter.encodes == [8] * 5
    (state,) = folder.glob("*.state.safetensors")
    edit(clip, tmp_path / "b.mkv", pack, latents=folder)
    assert ToyInverter.fits == [3]
    assert ToyInverter.encodes == [8] * 5  # latents from disk, the difference computed again
    a, b = images_of(tmp_path / "a.mkv"), images_of(tmp_path / "b.mkv")
    assert all(map(np.array_equal, a, b))
    state.write_bytes(state.read_bytes()[:-1])
    result = edit(clip, tmp_path / "c.mkv", pack, latents=folder)
    assert ToyInverter.fits == [3, 3]
    assert any("fitted again" in text for text in result.warnings)
    assert all(map(np.array_equal, a, images_of(tmp_path / "c.mkv")))


def test_inversions_of_another_state_are_not_used(clip, pack, tmp_path):
    folder = tmp_path / "kept"
    edit(clip, tmp_path / "a.mkv", pack, latents=folder)
    session = ClipSession(
        clip,
        EditSpec(AGE, method="toy", mode=RenderMode.PASTE),
        Networks(pack, "toy"),
        latents=folder,
        segment_frames=16,
    )
    (state,) = session.recall_states().values()
    other = TrackState("toy", {"mean": state.tensors["mean"] + 0.1}, state.facts)
    session.saved.keep_states({0: other})
    ToyInverter.encodes.clear()
    result = edit(clip, tmp_path / "b.mkv", pack, latents=folder)
    assert ToyInverter.encodes == [8] * 5
    assert any("is of another run: it is computed again" in text for text in result.warnings)
    assert [path.name for path in folder.glob("*.state.safetensors")] == [
        f"{other.digest}.state.safetensors"
    ]


def test_a_state_that_tracks_share_is_read_and_said_once(clip, pack, tmp_path, monkeypatch):
    loaded, load = [], TrackState.load
    monkeypatch.setattr(TrackState, "load", lambda *at: loaded.append(at[1]) or load(*at))
    tensors = {"mean": torch.zeros(3, 32, 32)}
    one, other = (TrackState("toy", tensors, {"notes": [note]}) for note in ("slow", "slower"))
    networks, spec = Networks(pack, "toy"), EditSpec(AGE, method="toy")
    session = ClipSession(clip, spec, networks, latents=tmp_path / "kept")
    session.saved.keep_states({0: one, 1: other, 2: one})
    states = session.recall_states()
    assert [states[number].digest for number in (0, 1, 2)] == [
        state.digest for state in (one, other, one)
    ]
    assert session.notes == ["slow", "slower"]
    assert sorted(loaded) == sorted([one.digest, other.digest])
    loaded.clear()
    states = load_states(session.saved.folder, {0: one.digest, 1: other.digest, 2: one.digest})
    assert states[0] is states[2]
    assert sorted(loaded) == sorted([one.digest, other.digest])


@pytest.mark.parametrize("target", [8, 16, 24])
def test_a_chain_gives_the_same_wherever_a_clip_is_cut(clip, pack, target):
    """Segments begin where a run of ``chain_chunks`` begins, so that each computes it whole."""
    spec = EditSpec(AGE, method="toy", mode=RenderMode.PASTE)
    session = ClipSession(clip, spec, Networks(pack, "toy"), segment_frames=target)
    with open_reader(clip) as reader:
        plan = session.make_plan(reader, reader.info, has_exact_times=lambda: True)
    assert all(segment.lead % 16 == 0 for segment in plan.segments)
    with open_reader(clip) as reader:
        states = session.fit(plan.analysis.tracks, reader)

    def rendered(segment):
        with open_reader(clip, part=plan.part(segment)) as reader:
            made = session.render(plan, segment, reader, states)
            return [picture for _, picture in made]

    parts = [picture for segment in plan.segments for picture in rendered(segment)]
    whole = rendered(plan.output)
    assert len(plan.segments) == -(-FRAMES // max(target, 16))
    assert len(parts) == len(whole) == FRAMES
    assert all(map(np.array_equal, parts, whole))


class Watched(ToyInverter):
    """``seen``: which encodings go on from another; ``made``: their codes, while these live."""

    def __init__(self, *shape):
        super().__init__(*shape)
        self.seen, self.made = [], []

    def encode(self, faces_N3RR, state=None, *, mode=RenderMode.INVERT, previous=None):
        self.seen.append(previous is not None)
        inversion = super().encode(faces_N3RR, state, mode=mode, previous=previous)
        self.made.append(weakref.ref(inversion.codes["difference"]))
        return inversion


def chain_editor(pack, tracks, *, saved=None) -> FaceEditor:
    config = pack.generator_config
    state = TrackState("toy", {"mean": torch.zeros(3, 32, 32)})
    return FaceEditor(
        Watched(config.num_ws, config.w_dim),
        resolution=pack.resolution,
        alignment=pack.alignment,
        directions=pack.directions(),
        spec=EditSpec(AGE, method="toy", mode=RenderMode.PASTE),
        tracks=tracks,
        shots=SHOTS,
        states={one.id: state for one in tracks},
        saved=saved,
    )


def test_a_chain_is_handed_on_within_its_run_alone(pack):
    editor = chain_editor(pack, [track(0, 39)])
    list(editor.process(chunked(frames(40), SHOTS)))
    assert editor.inverter.seen == [False, True, False, True, False]


class Kept:
    """Inversions of some frames, by the first of each chunk."""

    def __init__(self, chunks):
        self.chunks = chunks

    def get(self, track, frames, *, codes):
        return self.chunks.get(frames.start)

    def put(self, track, frames, inversion):
        self.chunks.setdefault(frames.start, inversion)


def test_a_chain_goes_on_from_what_was_kept(pack):
    """As it would from what it computes itself."""
    whole, kept = Kept({}), Kept({})
    list(chain_editor(pack, [track(0, 39)], saved=whole).process(chunked(frames(40), SHOTS)))
    assert sorted(whole.chunks) == [0, 8, 16, 24, 32]
    kept.chunks = {0: whole.chunks[0], 16: whole.chunks[16]}
    editor = chain_editor(pack, [track(0, 39)], saved=kept)
    list(editor.process(chunked(frames(40), SHOTS)))
    assert editor.inverter.seen == [True, True, False]
    for first, inversion in whole.chunks.items():
        assert torch.equal(kept.chunks[first].latents_NLD, inversion.latents_NLD)


def test_a_chain_keeps_nothing_of_a_track_that_has_ended(pack):
    editor = chain_editor(pack, [track(0, 20), track(0, 39, id=1)])
    for chunk in editor.process(chunked(frames(40), SHOTS)):
        alive = sum(code() is not None for code in editor.inverter.made)
        assert alive == {0: 2, 8: 2, 16: 1, 24: 1, 32: 0}[chunk.frames[0].index]


def test_segments_of_a_chain_begin_with_its_runs():
    segments = plan_segments(
        [(0, 99)], chunk_frames=8, chain_chunks=2, target_frames=20, halo_frames=4
    )
    assert len(segments) == 5
    assert {segment.first % 16 for segment in segments} == {0}
    assert {segment.lead % 16 for segment in segments} == {0}
    assert {segment.tail - segment.last for segment in segments} == {8, 0}
