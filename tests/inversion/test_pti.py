"""Pivotal tuning: what is minimised, that the pack is untouched, limits, runs from file to file."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import vidinv
from pipelines.batch.request.jobs import Job, Settings, pack_digest
from pipelines.batch.stages.analyse import AnalyseTask
from pipelines.batch.stages.fit import FitTask
from pipelines.batch.stages.runner import StageRunner
from pipelines.batch.stages.tasks import Completed
from pipelines.clip.networks import Networks
from pipelines.clip.session import ClipSession
from pipelines.demo import make_clip
from tests.inversion.toy import ToyInverter
from tests.packs.tiny import GENERATOR, write_tiny_pack
from tests.video.clips import images_of
from vidinv.errors import PackError, UsageError
from vidinv.inversion.pti import PivotalTuningConfig, PivotalTuningInverter
from vidinv.inversion.state import TrackState
from vidinv.metrics import psnr_batch
from vidinv.packs import Pack, load_pack
from vidinv.types import EditedLatents, EditSpec, RenderMode
from vidinv.video import EncodeOptions, open_reader

FRAMES = 12
FEW = {"frames": 2, "epochs": 1, "perceptual": "structure"}


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Pack:
    pack = load_pack(write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny"))
    return pack.with_options("pti", FEW)


def make_inverter(pack: Pack, **config) -> PivotalTuningInverter:
    return PivotalTuningInverter(
        pack.generator, pack.inverter("fse"), PivotalTuningConfig(**{**FEW, **config})
    )


def faces(count: int = 2, *, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def tuned_copy(pack: Pack, state: TrackState):
    """A generator's synthesis that really has the tuned weights."""
    synthesis = copy.deepcopy(pack.generator.synthesis)
    assert state.tensors.keys() == dict(synthesis.named_parameters()).keys()
    synthesis.load_state_dict(dict(state.tensors), strict=False)
    return synthesis


def test_tuning_brings_the_pictures_nearer_and_more_steps_more(pack):
    x, found = faces(), []
    for epochs in (1, 5, 15):
        inverter = make_inverter(pack, epochs=epochs, learning_rate=1e-2)
        state = inverter.fit(x)
        inversion = inverter.encode(x, state)
        found.append(psnr_batch(inverter.render(inversion, inversion.unedited, state), x).mean())
    assert found[0] < found[1] < found[2]
    assert found[2] > found[0] + 1


def test_a_step_goes_against_the_gradient_of_the_objective(pack):
    """10 L2 + P at the pivot, over the weights; Adam's first step is as long as its rate."""
    x, rate = faces(1), 1e-3
    inverter = make_inverter(pack, learning_rate=rate)
    state = inverter.fit(x)
    w = pack.inverter("fse").encode(x).latents_NLD.clone()
    synthesis = copy.deepcopy(pack.generator.synthesis).requires_grad_()
    picture = synthesis(w)
    loss = 10 * (picture - x).square().mean() + inverter.distance(picture, x).mean()
    loss.backward()
    for name, weight in synthesis.named_parameters():
        change = state.tensors[name] - weight.detach()
        clear = weight.grad.abs() > 1e-4
        assert clear.any()
        torch.testing.assert_close(
            change[clear], -rate * weight.grad.sign()[clear], rtol=1e-2, atol=1e-6
        )
    assert torch.equal(inverter.encode(x, state).latents_NLD, w)


def test_frames_take_turns_and_progress_is_told(pack):
    shares = []
    inverter = make_inverter(pack, epochs=3)
    state = inverter.fit(faces(2), progress=shares.append)
    assert state.facts == {"frames": 2, "steps": 6}
    assert shares == pytest.approx([step / 6 for step in range(1, 7)])


def test_each_track_is_rendered_with_its_own_weights_and_edits_keep_them(pack, tmp_path):
    inverter = make_inverter(pack, learning_rate=3e-3)
    states = [inverter.fit(faces(2, seed=seed)) for seed in (1, 2)]
    inversion = inverter.encode(faces(), states[0])
    latents = inversion.latents_NLD + 0.5
    offsets = {"b8.conv1": torch.ones(2, GENERATOR.style_channels["b8.conv1"])}
    for state in (*states, states[0]):
        for edited in (inversion.unedited, EditedLatents(latents, offsets)):
            actual = inverter.render(inversion, edited, state)
            expected = tuned_copy(pack, state)(
                edited.latents_NLD, style_offsets=edited.style_offsets
            )
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
            state.save(tmp_path)
            read = TrackState.load(tmp_path, state.digest)
            assert torch.equal(make_inverter(pack).render(inversion, edited, read), actual)
    pictures = [inverter.render(inversion, inversion.unedited, state) for state in states]
    assert (pictures[0] - pictures[1]).abs().mean() > 0.003


@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad])
def test_nothing_of_the_pack_is_changed_and_any_grad_mode_does(pack, around):
    before = copy.deepcopy(pack.generator.state_dict())
    expected = make_inverter(pack).fit(faces())
    with around():
        inverter = make_inverter(pack)
        state = inverter.fit(faces() * 1.0)
        inverter.render(inverter.encode(faces(), state), EditedLatents(torch.zeros(1, 8, 8)), state)
    assert state.digest == expected.digest
    assert all(torch.equal(v, before[key]) for key, v in pack.generator.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in pack.generator.parameters())
    shared = {p.data_ptr() for p in pack.generator.parameters()}
    assert {p.data_ptr() for p in inverter._synthesis.parameters()} <= shared  # no memory twice


def test_tuning_ends_in_time_and_says_so(pack):
    clock = iter(range(100))
    inverter = PivotalTuningInverter(
        pack.generator,
        pack.inverter("fse"),
        PivotalTuningConfig(epochs=50, max_seconds=3.0),
        seconds=lambda: float(next(clock)),
    )
    state = inverter.fit(faces(1))
    assert state.facts["steps"] == 3
    (note,) = state.notes
    assert "ended after 3 s, at step 3 of 50" in note


def test_pivots_come_from_the_method_that_the_pack_names(pack, tmp_path):
    assert pack.inverter("pti").first.name == "fse"
    assert pack.with_options("pti", {"first_phase": "wplus"}).inverter("pti").first.name == "wplus"
    without = load_pack(write_tiny_pack(tmp_path / "tiny", methods={}))
    assert without.inverter("pti").first.name == "wplus"
    choices = without.local_choices("pti")
    assert choices.keys() == {"perceptual term", "wplus: perceptual term"}
    digests = {
        pack.with_options("pti", change).inversion_digest("pti")
        for change in ({}, {"epochs": 2}, {"first_phase": "wplus"})
    }
    assert len(digests) == 3


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"epochs": 0}, {"max_seconds": 0}])
def test_a_configuration_that_makes_no_sense_is_refused(pack, wrong):
    with pytest.raises(PackError, match="PivotalTuningConfig"):
        pack.with_options("pti", wrong).inverter("pti")


def test_a_fitted_first_phase_is_refused(pack):
    with pytest.raises(ValueError, match="toy is fitted itself"):
        PivotalTuningInverter(pack.generator, ToyInverter(8, 8))


def test_it_does_not_work_without_its_state(pack):
    with pytest.raises(UsageError, match="pti needs the state"):
        make_inverter(pack).encode(faces())


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return make_clip(load_pack(), path, seconds=FRAMES / 25, size_px=256, tone=False)


def test_a_clip_is_tuned_to_once_and_the_weights_serve_again(pack, clip, tmp_path):
    """In ``invert`` after ``edit``, and in segments as ``batch`` renders them."""
    how = {"pack": pack, "method": "pti", "latents": tmp_path / "kept"}
    how["encode"] = EncodeOptions(encoder="ffv1")
    edited, inverted = tmp_path / "edited.mkv", tmp_path / "inverted.mkv"
    result = vidinv.edit(clip, edited, attributes={"smile": 2.0}, detail=False, **how)
    folder = tmp_path / "kept" / f"{clip.name}.latents"
    (state,) = folder.glob("*.state.safetensors")
    written = state.stat().st_mtime_ns
    vidinv.invert(clip, inverted, **how)
    assert state.stat().st_mtime_ns == written  # not fitted again
    assert result.faces_edited == FRAMES
    assert not np.array_equal(images_of(edited), images_of(inverted))

    spec = EditSpec({"smile": ((0.0, 2.0),)}, method="pti", mode=RenderMode.PASTE)
    session = ClipSession(clip, spec, Networks(pack, "pti"), segment_frames=8)
    with open_reader(clip) as reader:
        plan = session.make_plan(reader, reader.info, has_exact_times=lambda: True)
    states = {0: TrackState.load(folder, state.name.split(".")[0])}

    def pictures(segment):
        with open_reader(clip, part=plan.part(segment)) as reader:
            return [made for _, made in session.render(plan, segment, reader, states)]

    assert len(plan.segments) == 2
    parts = [picture for segment in plan.segments for picture in pictures(segment)]
    assert all(map(np.array_equal, parts, pictures(plan.output)))


def test_batch_fits_the_very_same_state_and_sees_every_step(pack, clip, tmp_path):
    folder = write_tiny_pack(tmp_path / "tiny", methods=pack.meta["methods"])
    settings = Settings(str(folder), pack_digest(pack.meta), method="pti")
    stages = StageRunner(settings)
    job, work = Job(str(clip), "a.mkv", {"age": ((0.0, 1.0),)}), tmp_path / "work"
    assert isinstance(stages.run(AnalyseTask(job, work)), Completed)
    done = stages.run(FitTask(job, work))
    assert isinstance(done, Completed), done
    assert stages.beats >= 2
    (path,) = work.glob("*.state.safetensors")
    spec = EditSpec(method="pti", mode=RenderMode.INVERT)
    session = ClipSession(clip, spec, Networks(pack, "pti"))
    with open_reader(clip) as reader:
        plan = session.make_plan(reader, reader.info, has_exact_times=lambda: True)
    with open_reader(clip) as reader:
        states = session.fit(plan.analysis.tracks, reader)
    assert path.name.startswith(states[0].digest)
