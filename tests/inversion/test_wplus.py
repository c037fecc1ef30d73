"""Projection into W+: what it finds, that faces stand alone, runs from file to file."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import vidinv
from pipelines.batch.request.jobs import Job, Settings, pack_digest
from pipelines.batch.stages.analyse import AnalyseTask
from pipelines.batch.stages.render import RenderTask
from pipelines.batch.stages.report_clip import ReportTask
from pipelines.batch.stages.runner import StageRunner
from pipelines.batch.stages.tasks import Completed, ReportOptions
from pipelines.clip.networks import Networks
from pipelines.clip.plan import SEGMENT_FRAMES
from pipelines.clip.saved import key_of
from pipelines.clip.session import ClipSession
from pipelines.demo import make_clip
from tests.packs.tiny import GENERATOR, write_tiny_pack
from tests.video.clips import images_of
from vidinv.cli import main
from vidinv.errors import MissingDependencyError, PackError
from vidinv.generators.stylegan2 import StyleGAN2Generator
from vidinv.inversion.perceptual import LPIPS_BACKBONES, STRUCTURE_NAME
from vidinv.inversion.wplus import WPlusConfig, WPlusInverter
from vidinv.metrics import psnr_batch
from vidinv.metrics.lpips import BACKBONES
from vidinv.packs import Pack, load_pack
from vidinv.types import EditedLatents, EditSpec, Inversion, RenderMode
from vidinv.video import EncodeOptions, open_reader

FRAMES = 40
FEW = {"steps": 3, "shared_steps": 1, "steps_from_previous": 2}
TERM = f"wplus: perceptual term: {STRUCTURE_NAME}"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """No backbone in torch's cache, whatever this machine has."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture(scope="module")
def generator() -> StyleGAN2Generator:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(GENERATOR).eval().requires_grad_(False)
    w = generator.mapping(torch.randn(1024, GENERATOR.z_dim))
    generator.mapping.w_avg.copy_(w.mean(0))
    return generator


@pytest.fixture(scope="module")
def inverter(generator) -> WPlusInverter:
    return WPlusInverter(generator)


@pytest.fixture(scope="module")
def made(generator) -> Tensor:
    """Pictures of the generator's own; random weights give some beyond [-1, 1]."""
    return generator.synthesis(generator.broadcast(w_of_made(generator)))


def w_of_made(generator: StyleGAN2Generator) -> Tensor:
    z = torch.randn(4, GENERATOR.z_dim, generator=torch.Generator().manual_seed(1))
    return generator.mapping(z)


def rendered(inverter: WPlusInverter, inversion: Inversion) -> Tensor:
    return inverter.render(inversion, inversion.unedited)


def mean_picture(inverter: WPlusInverter, like: Tensor) -> Tensor:
    latents = inverter.mean.expand(len(like), inverter.num_ws, -1)
    return rendered(inverter, Inversion(latents))


def u_of(inverter: WPlusInverter, inversion: Inversion) -> Tensor:
    return (inversion.latents_NLD - inverter.mean) / inverter.spread


def test_the_loss_falls_with_every_dozen_steps(generator, made):
    found = []
    for steps in (1, 12, 24, 48):
        inverter = WPlusInverter(generator, WPlusConfig(steps, shared_steps=0))
        found.append(inverter.losses(made, u_of(inverter, inverter.encode(made))))
    for worse, better in itertools.pairwise(found):
        assert (better < worse).all()
    assert (found[-1] < 0.4 * found[0]).all()


def test_pictures_of_the_generator_are_found_again(inverter, made):
    """Measured: 21, 28, 37 and 38 dB, from 5 to 12 at the mean."""
    before = psnr_batch(mean_picture(inverter, made), made)
    after = psnr_batch(rendered(inverter, inverter.encode(made)), made)
    assert (after > before + 10).all()
    assert after.min() > 20


def test_the_w_of_a_picture_is_found_again(generator, made):
    """Measured: 70 dB at the least, w to 0.0003 on average."""
    config = WPlusConfig(100, shared_steps=100, distance_weight=0.0)
    inverter = WPlusInverter(generator, config)
    inversion = inverter.encode(made)
    assert (psnr_batch(rendered(inverter, inversion), made) > 60).all()
    assert (inversion.latents_NLD - w_of_made(generator)[:, None]).abs().mean() < 0.003


def test_latents_are_float32_and_rows_move_apart_only_after_the_shared_steps(generator, made):
    inverter = WPlusInverter(generator, WPlusConfig(6, shared_steps=6))
    latents = inverter.encode(made).latents_NLD
    assert latents.shape == (4, GENERATOR.num_ws, GENERATOR.w_dim)
    assert latents.dtype == torch.float32
    torch.testing.assert_close(latents, latents[:, :1].expand_as(latents), rtol=0, atol=1e-6)
    apart = WPlusInverter(generator, WPlusConfig(6, shared_steps=3)).encode(made).latents_NLD
    assert (apart - apart[:, :1]).abs().max() > 0.01


def test_faces_of_a_batch_do_not_know_of_each_other(inverter, made):
    """Up to the rounding of other batch sizes, which a search magnifies."""
    together = inverter.encode(made)
    for number in range(len(made)):
        others = [other for other in range(len(made)) if other != number][:2]
        alone = inverter.encode(made[number : number + 1])
        among = inverter.encode(made[[others[0], number, others[1]]])
        expected = together.latents_NLD[number]
        torch.testing.assert_close(alone.latents_NLD[0], expected, rtol=0, atol=2e-3)
        torch.testing.assert_close(among.latents_NLD[1], expected, rtol=0, atol=2e-3)


def test_it_goes_on_from_the_last_frame_of_the_chunk_before(generator, made):
    """A slightly darker face: few steps from where its neighbour was found beat as many anew."""
    config = WPlusConfig(steps_from_previous=5)
    inverter, anew = WPlusInverter(generator, config), WPlusInverter(generator, WPlusConfig(5, 0))
    previous, darker = inverter.encode(made), made[-1:] * 0.98
    expected = inverter.losses(darker, u_of(inverter, anew.encode(darker)))
    found = inverter.encode(darker, previous=previous)
    assert inverter.losses(darker, u_of(inverter, found)) < 0.8 * expected
    last = Inversion(previous.latents_NLD[-1:])
    assert torch.equal(inverter.encode(darker, previous=last).latents_NLD, found.latents_NLD)


def test_the_same_faces_give_the_same_latents(generator, inverter, made):
    first = inverter.encode(made).latents_NLD
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for mode in RenderMode:
        assert torch.equal(inverter.encode(made, mode=mode).latents_NLD, first)
    assert torch.equal(WPlusInverter(generator).encode(made).latents_NLD, first)
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers are drawn


@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad])
def test_it_works_in_any_grad_mode(generator, inverter, made, around):
    expected = inverter.encode(made)
    again = inverter.encode(made, previous=expected)
    with around():
        faces = made * 1.0  # an inference tensor in inference mode
        built = WPlusInverter(generator)
        found = built.encode(faces)
        other = built.encode(faces, previous=Inversion(found.latents_NLD * 1.0))
        assert not torch.is_grad_enabled()
    assert torch.equal(found.latents_NLD, expected.latents_NLD)
    assert torch.equal(other.latents_NLD, again.latents_NLD)
    assert not found.latents_NLD.requires_grad
    assert not found.latents_NLD.is_inference()


def test_the_generator_is_not_changed(generator, made):
    before = copy.deepcopy(generator.state_dict())
    inverter = WPlusInverter(generator)
    rendered(inverter, inverter.encode(made))
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in generator.parameters())
    assert not generator.training


def test_rendering_takes_latents_and_style_offsets(generator, inverter, made):
    inversion = inverter.encode(made)
    latents = inversion.latents_NLD + 0.5
    offsets = {"b8.conv1": torch.ones(1, GENERATOR.style_channels["b8.conv1"])}
    expected = generator.synthesis(latents, style_offsets=offsets)
    assert torch.equal(inverter.render(inversion, EditedLatents(latents, offsets)), expected)


def test_the_distance_that_is_passed_in_is_minimised(generator, made):
    calls = []

    def distance(x, y):
        calls.append(x.shape)
        return (x - y).abs().mean((1, 2, 3))

    WPlusInverter(generator, WPlusConfig(4, 2), distance=distance).encode(made)
    assert calls == [made.shape] * 4


def test_lpips_is_chosen_and_named_where_a_backbone_is_there(empty_cache):
    pytest.importorskip("lpips", reason="needs lpips: make setup-dev")
    assert WPlusInverter.local_choices({}, 64) == {"perceptual term": STRUCTURE_NAME}
    empty_cache.mkdir(parents=True)
    for name in reversed(LPIPS_BACKBONES):  # alex is preferred
        (empty_cache / BACKBONES[name].file).touch()
        assert WPlusInverter.local_choices({}, 64) == {"perceptual term": f"LPIPS ({name})"}
    chosen = {"perceptual": "structure"}
    assert WPlusInverter.local_choices(chosen, 64) == {"perceptual term": STRUCTURE_NAME}


def pack_with(folder: Path, **config) -> Pack:
    """The tiny pack with an entry for the method."""
    methods = json.loads((write_tiny_pack(folder) / "pack.json").read_text())["methods"]
    return load_pack(write_tiny_pack(folder, methods={**methods, "wplus": {"config": config}}))


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Pack:
    return pack_with(tmp_path_factory.mktemp("packs") / "tiny", **FEW)


def test_a_pack_may_say_how_to_search(pack, tmp_path):
    assert pack.inverter("wplus").config == WPlusConfig(**FEW)
    assert load_pack().inverter("wplus").config == WPlusConfig()
    assert "wplus" in load_pack().methods
    for wrong in ({"perceptual": "vgg19"}, {"steps": 0}, {"step": 3}):
        with pytest.raises(PackError, match="WPlusConfig"):
            pack_with(tmp_path / "wrong", **wrong).inverter("wplus")
    with pytest.raises(MissingDependencyError, match="LPIPS is absent"):
        pack_with(tmp_path / "vgg", perceptual="vgg").inverter("wplus")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return make_clip(load_pack(), path, seconds=FRAMES / 25, size_px=256, tone=False)


def test_a_clip_gives_the_same_wherever_it_is_cut(pack, clip):
    """Runs are of 32 frames: the second segment begins with the second run."""
    spec = EditSpec({"smile": ((0.0, 1.0),)}, method="wplus", mode=RenderMode.PASTE)
    session = ClipSession(clip, spec, Networks(pack, "wplus"), segment_frames=20)
    with open_reader(clip) as reader:
        plan = session.make_plan(reader, reader.info, has_exact_times=lambda: True)
    assert [segment.first for segment in plan.segments] == [0, 32]

    def pictures(segment):
        with open_reader(clip, part=plan.part(segment)) as reader:
            return [picture for _, picture in session.render(plan, segment, reader, {})]

    parts = [picture for segment in plan.segments for picture in pictures(segment)]
    assert len(parts) == FRAMES
    assert all(map(np.array_equal, parts, pictures(plan.output)))


@pytest.mark.parametrize("command", ["edit", pytest.param("invert", marks=pytest.mark.slow)])
def test_latents_serve_again_without_a_search(pack, clip, tmp_path, monkeypatch, command):
    how = {"pack": pack, "method": "wplus", "encode": EncodeOptions(encoder="ffv1")}
    if command == "edit":
        how["attributes"] = {"smile": 2.0}
    run = getattr(vidinv, command)
    first = run(clip, tmp_path / "first.mkv", latents=tmp_path / "kept", **how)
    assert first.method == "wplus"
    assert first.faces_edited == FRAMES
    assert first.warnings.count(TERM) == 1

    def search(*arguments, **more):
        raise AssertionError("searched again")

    monkeypatch.setattr(WPlusInverter, "_search", search)
    again = run(clip, tmp_path / "again.mkv", latents=tmp_path / "kept", **how)
    assert again.warnings == first.warnings
    images = [images_of(tmp_path / f"{name}.mkv") for name in ("first", "again")]
    assert np.array_equal(*images)
    assert not np.array_equal(images[0], images_of(clip))
    tracks = vidinv.load_latents(tmp_path / "kept" / f"{clip.name}.latents")
    assert tracks[0].latents_TLD.shape == (FRAMES, GENERATOR.num_ws, GENERATOR.w_dim)


def test_latents_of_another_perceptual_term_are_not_used(pack, clip, empty_cache):
    pytest.importorskip("lpips", reason="needs lpips: make setup-dev")

    def key(method):
        spec = EditSpec(method=method)
        return key_of(clip, pack=pack, spec=spec, segment_frames=SEGMENT_FRAMES)

    without, others = key("wplus"), key("fse")
    assert "perceptual term" not in others
    empty_cache.mkdir(parents=True)
    (empty_cache / BACKBONES["alex"].file).touch()
    assert {**without, "perceptual term": "LPIPS (alex)"} == key("wplus") != without
    assert key("fse") == others


def test_every_step_shows_a_batch_that_its_worker_is_alive(pack, clip, tmp_path, monkeypatch):
    """In a segment, and in a report, which has networks of its own."""
    stages = StageRunner(
        Settings(
            str(pack.folder),
            pack_digest(pack.meta),
            method="wplus",
            method_options={"steps": FEW["steps"] + 1},
            encode=EncodeOptions(encoder="ffv1", threads=1),
        )
    )
    beats_and_steps = []
    encode = WPlusInverter.encode

    def watched(self, *arguments, previous=None, **how):
        before = stages.beats
        result = encode(self, *arguments, previous=previous, **how)
        steps = FEW["steps"] + 1 if previous is None else FEW["steps_from_previous"]
        beats_and_steps.append((stages.beats - before, steps))
        return result

    monkeypatch.setattr(WPlusInverter, "encode", watched)
    job, work = Job(str(clip), "a.mkv", {"age": ((0.0, 1.0),)}), tmp_path / "w"
    report = ReportTask(job, work, clip, tmp_path, "a.html", ReportOptions())
    for task in (AnalyseTask(job, work), RenderTask(job, work, 0), report):
        beats_and_steps.clear()
        done = stages.run(task)
        assert isinstance(done, Completed), done
        assert beats_and_steps or isinstance(task, AnalyseTask)
        assert all(beats >= steps for beats, steps in beats_and_steps)


def test_the_command_line_takes_it_and_says_the_term_once(pack, clip, tmp_path, capsys):
    arguments = ["edit", clip, "-o", tmp_path / "out.mp4", "--attr", "smile", "--method", "wplus"]
    assert main([str(a) for a in (*arguments, "--pack", pack.folder, "--json", "--quiet")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["method"] == "wplus"
    assert result["warnings"].count(TERM) == 1


def test_strength_0_is_copied_and_nothing_is_said_of_the_method(pack, clip, tmp_path):
    result = vidinv.edit(
        clip, tmp_path / "out.mp4", pack=pack, method="wplus", attributes={"smile": 0.0}
    )
    assert TERM not in result.warnings
