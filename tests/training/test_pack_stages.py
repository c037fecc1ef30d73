"""Trainers of second phases on a pack: hyper and rectifier, and the packs that they end up in."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import yaml

from tests.packs.tiny import ENCODER, GENERATOR, HYPER, write_tiny_pack
from tests.training.runs import LOOP, PIXELS_ALONE, check_resumes_exactly
from training.adversary import AdversaryConfig
from training.build_method import build as build_method
from training.hyper import HyperStage, HyperTask
from training.loop import Loop, make_batch
from training.method_rows import kept_edits, trained_inverters, unfitted
from training.rectifier import RectifierStage, RectifierTask
from training.request import TrainingRequest
from training.start import build, train
from vidinv.errors import UsageError, VidinvError
from vidinv.inversion.rectify_networks import RectifierConfig
from vidinv.packs import load_pack
from vidinv.packs.format import copy_with_directions

SMALL = RectifierConfig(32, widths=(4, 6, 8), spatial_width=8, global_width=8, output="residual")
PATCHES = replace(PIXELS_ALONE, adversary=AdversaryConfig(start_images=16, projected=False))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny")


def stage(kind: str, folder, **changes) -> RectifierStage | HyperStage:
    common = {"loop": LOOP, "pack": str(folder), "judges": PATCHES} | changes
    if kind == "rectifier":
        return RectifierStage(**{"rectifier": SMALL, **common})
    return HyperStage(**{"hyper": HYPER, "first_phase": "fse", **common})


def make_task(config) -> RectifierTask | HyperTask:
    torch.manual_seed(0)
    return RectifierTask(config) if isinstance(config, RectifierStage) else HyperTask(config)


def make_loop(faces, folder, config) -> Loop:
    folder.mkdir(exist_ok=True)
    return Loop(make_task(config), faces, config.loop, folder)


KINDS = {
    "rectifier": {},
    "hyper": {},
    "hyper, phase 1": {"phase": 1, "first_phase": ""},
}


def config_of(name: str, pack, **changes):
    return stage(name.split(",")[0], pack, **KINDS[name], **changes)


@pytest.mark.parametrize("name", KINDS)
def test_a_run_that_is_killed_resumes_to_the_same_losses(
    faces, folder, tmp_path, quick_checkpoints, name
):
    config = config_of(name, folder, loop=replace(LOOP, total_images=56))
    check_resumes_exactly(lambda name: make_loop(faces, tmp_path / name, config))


@pytest.mark.parametrize("name", KINDS)
def test_it_learns_from_where_the_first_phase_ends(faces, folder, name):
    """The same batch again and again; a second phase begins at the first one's picture."""
    config = config_of(
        name, folder, learning_rate=0.01, judges=PIXELS_ALONE, loop=replace(LOOP, warmup_images=0)
    )
    if name == "rectifier":
        config = replace(config, triplets=(0.0, 0.0, 1.0))
    task, batch = make_task(config), make_batch(faces, np.arange(8))
    before = {k: v.clone() for k, v in task.generator.state_dict().items()}
    modules = {n: task.modules[n] for n in task.averaged}
    start, _ = task.evaluate(modules, batch)
    first = "psnr_first" if name == "rectifier" else "psnr_w"
    assert start.get("psnr", start[first]) == pytest.approx(start[first], abs=1e-3)
    found = [float(task.step(batch, n, lambda p: None)["pixel"].detach()) for n in range(30)]
    assert found[-1] < 0.93 * found[0]
    assert all(torch.equal(v, before[k]) for k, v in task.generator.state_dict().items())


def test_the_three_triplets_are_those_of_algorithm_1(faces, folder):
    images = make_batch(faces, np.arange(4)).images
    drawn = []
    for kind in range(3):
        shares = tuple(float(n == kind) for n in range(3))
        task = make_task(stage("rectifier", folder, triplets=shares))
        torch.manual_seed(1)
        drawn.append(task.draw(images))
    undone, kept, same = drawn
    inverter = load_pack(folder).inverter("fse")
    x_hat = inverter.synthesis(inverter.encode_latents(images))
    for triplet, parts in ((same, "ITX"), (kept, "IX"), (undone, "TX")):
        assert torch.equal(triplet.source, images) == (triplet is not undone)
        assert torch.equal(triplet.target, images) == (triplet is not kept)
        for name, present in (("inverted", "I" in parts), ("primary", "T" in parts)):
            close = torch.allclose(getattr(triplet, name), x_hat, atol=1e-5)
            assert close == present, (parts, name)
    assert torch.equal(undone.source, kept.target)
    assert torch.equal(undone.inverted, kept.primary)
    assert not torch.equal(undone.source, images)


def test_directions_that_are_held_out_make_no_edit(faces, folder):
    task = make_task(stage("rectifier", folder, held_out=("age",)))
    latents = torch.zeros(16, load_pack(folder).generator.num_ws, 8)
    moved = task._draw_edits(latents).latents_NLD
    smile = load_pack(folder).directions()["smile"].vector_LD
    share = (moved * smile).sum(dim=(1, 2)) / smile.square().sum()
    torch.testing.assert_close(moved, share[:, None, None] * smile)
    assert share.abs().max() <= 2


@pytest.mark.parametrize(
    ("held_out", "left"),
    [
        (("smile",), ["age", "interfacegan_age"]),
        (("interfacegan_age", "smile"), ["age"]),
        ((), ["age", "interfacegan_age", "interfacegan_smile", "smile"]),
    ],
)
def test_what_was_found_for_an_attribute_is_held_out_with_it(folder, tmp_path, held_out, left):
    """Directions as ``vidinv directions fit interfacegan`` writes them."""
    entry = {"space": "w", "positive": "more", "strength_range": [-2, 2], "checked": False}
    names = ("interfacegan_smile", "interfacegan_age")
    copy_with_directions(
        load_pack(folder).files, tmp_path / "fitted",
        dict.fromkeys(names, entry), dict.fromkeys(names, torch.ones(8)),
    )  # fmt: skip
    task = make_task(stage("rectifier", tmp_path / "fitted", held_out=held_out))
    assert sorted(task.edits) == left


@pytest.mark.parametrize(
    "ablation", [{"fusion": False}, {"fusion_norm": False}, {"layer_wise": False}]
)
def test_ablations_of_hyper_train(faces, folder, ablation):
    config = stage("hyper", folder, hyper=replace(HYPER, **ablation), judges=PIXELS_ALONE)
    metrics = make_task(config).step(make_batch(faces, np.arange(8)), 0, lambda p: None)
    assert torch.isfinite(metrics["pixel"])


@pytest.mark.parametrize(
    "ablation",
    [{"modulation": "global"}, {"difference_input": "pair"}, {"output": "picture"}],
)
def test_ablations_of_the_rectifier_train(faces, folder, ablation):
    config = stage("rectifier", folder, rectifier=replace(SMALL, **ablation), judges=PIXELS_ALONE)
    metrics = make_task(config).step(make_batch(faces, np.arange(8)), 0, lambda p: None)
    assert torch.isfinite(metrics["pixel"])


def test_phase_two_goes_on_from_phase_one(faces, folder, tmp_path, quick_checkpoints):
    loop = replace(LOOP, total_images=16)
    one = make_loop(faces, tmp_path / "one", config_of("hyper, phase 1", folder, loop=loop))
    one.run()
    config = stage("hyper", folder, first_phase="", init=str(tmp_path / "one"))
    two = make_task(config)
    two.initialise(tmp_path / "one")
    # E1's batch norm has the averaged weights' statistics, and nothing of phase 2 moves them.
    averaged = one.ema["w_encoder"].state_dict()
    two.step(make_batch(faces, np.arange(8)), 0, lambda p: None)
    for key, value in two.modules["w_encoder"].state_dict().items():
        assert torch.equal(value, averaged[key]) or key.endswith("num_batches_tracked")


def experiment(path, **fields):
    path.write_text(yaml.safe_dump(fields))
    return path


LOOP_FIELDS = {"total_images": 32, "batch": 8, "workers": 1, "warmup_images": 0, "decay_images": 1}
SMALL_FIELDS = json.loads(json.dumps(dataclasses.asdict(SMALL)))
SIDE = {"input_resolution": 64}
HYPER_FIELDS = json.loads(json.dumps(dataclasses.asdict(HYPER)))
ENCODER_FIELDS = json.loads(json.dumps(asdict(ENCODER)))


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("rectifier", {"pack": "faces-129"}, "unknown pack 'faces-129'"),
        ("rectifier", {"first_phase": "fsee"}, "fsee"),
        ("rectifier", {"first_phase": "pti"}, "pti is fitted to tracks"),
        ("rectifier", {"held_out": ["smiel"]}, "unknown direction in held_out 'smiel'"),
        ("rectifier", {"held_out": ["smile", "age"]}, "leaves no direction for edits"),
        ("rectifier", {"triplets": [0, 0, 0]}, "triplets must be shares"),
        ("rectifier", {"rectifier": {**SMALL_FIELDS, "resolution": 64}}, "above the pack's, 32"),
        ("rectifier", {"widths": [4]}, "unknown key"),
        ("hyper", {"phase": 1, "first_phase": "fse"}, "phase 1 trains E1"),
        ("hyper", {}, "init must name the run of phase 1"),
        ("hyper", {"first_phase": "fse", "phase": 3}, "expected one of 1, 2"),
        ("hyper", {"first_phase": "fse", "hyper": {"phase_two": False}}, "leaves out what phase 2"),
        ("hyper", {"first_phase": "fse", "init": "PACK"}, "has no weights of"),
    ],
)
def test_faults_of_an_experiment_are_said_in_one_line(folder, tmp_path, kind, fields, said):
    own = {"rectifier": SMALL_FIELDS} if kind == "rectifier" else {"hyper": HYPER_FIELDS}
    fields = {k: str(folder) if v == "PACK" else v for k, v in fields.items()}
    path = experiment(
        tmp_path / "stage.yaml", **{"pack": str(folder), "loop": LOOP_FIELDS, **own, **fields}
    )
    with pytest.raises(VidinvError, match=said) as caught:
        build(kind, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "method", "own"),
    [
        ("rectifier", "rectify", {"rectifier": SMALL_FIELDS}),
        ("hyper", "hyper", {"hyper": HYPER_FIELDS, "first_phase": "fse"}),
        ("adaptive", "adaptive", {"adaptive": {"width": 4, "max_width": 8}}),
        ("psp", "psp", {"psp": {"widths": [4, 4, 8, 8], "blocks": [1, 1, 1, 1], **SIDE}}),
    ],
)
def test_a_pack_gains_the_method_and_renders_with_the_averaged_weights(
    faces, folder, tmp_path, quick_checkpoints, kind, method, own
):
    judges = {"perceptual": "none", "identity_weight": 0, "adversary": None}
    path = experiment(
        tmp_path / "stage.yaml", pack=str(folder), loop=LOOP_FIELDS, judges=judges,
        learning_rate=0.03, **own,
    )  # fmt: skip
    config, task = build(kind, path)
    loop = Loop(task, faces, config.loop, tmp_path / "run")
    (tmp_path / "run").mkdir()
    loop.run()
    # What the stage started from may be gone.
    experiment(path, **{**yaml.safe_load(path.read_text()), "init": str(tmp_path / "gone")})
    data = write_arrays(tmp_path / "data", faces)
    method_file = experiment(
        tmp_path / "method.yaml", kind=kind, stage=str(path), run=str(tmp_path / "run"), every=4
    )
    request = TrainingRequest("method", method_file, tmp_path / "pack", data)
    train(request)
    pack = load_pack(tmp_path / "pack")
    assert pack.files.problems() == []
    assert pack.name == load_pack(folder).name
    assert method in pack.methods
    row = pack.meta["metrics"]["methods"][method]
    assert {"psnr", "psnr_w", "ssim", "sharpness", "identity"} <= row.keys()
    batch = make_batch(faces, np.arange(16))
    inverter = unfitted(pack, method)
    inversion = inverter.encode(batch.images)
    picture = inverter.render(inversion, inversion.unedited)
    _, rows = task.evaluate(loop.ema, batch)
    shown = rows[1 if method == "psp" else 2]
    torch.testing.assert_close(picture, shown, rtol=0, atol=0.01)
    if method == "psp":
        assert not torch.allclose(shown, shown[:1].expand_as(shown), atol=0.01)
    elif method != "adaptive":  # z_c differs little from the constant after so few steps
        assert not torch.allclose(rows[2], rows[1], atol=0.01)
    fields = {**yaml.safe_load(path.read_text()), "init": str(tmp_path / "pack")}
    _, again = build(kind, experiment(path, **fields))
    assert again.start.endswith("begun anew: nothing")
    taken = again.pack_tensors()
    for key, value in pack.files.tensors(f"{method}.safetensors").items():
        torch.testing.assert_close(taken[key].to(value), value, msg=key)
    with pytest.raises(UsageError, match="is there already"):
        build_method(request)
    assert set(trained_inverters(pack)) == {"eq1", method}


@pytest.mark.parametrize("kind", ["gan", "encoder"])
def test_an_encoder_that_learned_on_a_packs_generator_takes_the_place_of_its_fse(
    faces, tmp_path, quick_checkpoints, kind
):
    folder = write_tiny_pack(tmp_path / "tiny", fse={"edit_feature_scale": 0.5})
    own = {"edit_weight": 0} if kind == "encoder" else {}
    stage = dict(
        init=str(folder), train_resolution=32, loop=LOOP_FIELDS, encoder_learning_rate=0.03,
        generator={k: v for k, v in asdict(GENERATOR).items() if k != "kind"},
        encoder={**ENCODER_FIELDS, "latent_space": "w+", "row_width": 4},
        judges={"perceptual": "none", "identity_weight": 0, "adversary": None}, **own,
    )  # fmt: skip
    data = write_arrays(tmp_path / "data", faces)
    for rate, run in ((0.0, "still"), (0.01, "moved")):
        path = experiment(tmp_path / f"{run}.yaml", learning_rate=rate, **stage)
        (tmp_path / run).mkdir()
        config, task = build(kind, path)
        Loop(task, faces, config.loop, tmp_path / run).run()
        method = experiment(
            tmp_path / f"{run}_method.yaml",
            kind=kind, stage=str(path), run=str(tmp_path / run), pack=str(folder), every=4,
        )  # fmt: skip
        request = TrainingRequest("method", method, tmp_path / f"{run}_pack", data)
        if rate:
            with pytest.raises(UsageError, match="moved changed the generator of tiny"):
                train(request)
            assert not request.out.exists()
        else:
            train(request)
    pack, before = load_pack(tmp_path / "still_pack"), load_pack(folder)
    assert pack.files.problems() == []
    entry = pack.meta["methods"]["fse"]
    assert (entry["edit_feature_scale"], entry["config"]["row_width"]) == (0.5, 4)
    assert {"psnr", "psnr_w"} <= pack.meta["metrics"]["methods"]["fse"].keys()
    for name in ("generator.safetensors", "directions.safetensors"):
        assert pack.files.digest(name) == before.files.digest(name)
    batch = make_batch(faces, np.arange(16))
    ours, theirs = (p.inverter("fse").encode_latents(batch.images) for p in (pack, before))
    assert not torch.allclose(ours, theirs, atol=0.01)
    assert ours.std(dim=1).max() > 0  # rows differ


def write_arrays(folder, faces):
    """As training.data writes them, at the tiny pack's size."""
    folder.mkdir()
    np.save(folder / "faces32.npy", faces.images_M3RR)
    for name, rows in (
        ("weights", faces.weights_M),
        ("targets", faces.targets_MA),
        ("landmarks", faces.landmarks_M),
        ("split", faces.is_train_M),
    ):
        np.save(folder / f"{name}.npy", rows)
    return folder


class Brightness:
    """Stands in for training.calibration.AttributeMeter: "smile" is how bright a picture is."""

    def with_embeddings(self, pictures_NRR3):
        from training.calibration import EDITS

        bright = pictures_NRR3.mean(axis=(1, 2, 3))
        return dict.fromkeys(EDITS, bright), np.stack([bright, bright], axis=1)


def test_what_is_kept_of_an_edit_is_a_share_of_its_change_in_g_of_w(faces, folder):
    pack = load_pack(folder)
    plain = pack.inverter("fse")
    plain.codes_for = lambda mode: frozenset()  # G(w) alone
    inverters = {"w": plain, **trained_inverters(pack)}
    table = kept_edits(
        Brightness(), pack, faces, np.arange(32), inverters=inverters, edits=("smile",)
    )
    row = table["smile"]
    assert row["kept_w"] == pytest.approx(1, abs=0.01)
    assert {"moved_w", "kept_eq1", "distance_eq1"} <= row.keys()
