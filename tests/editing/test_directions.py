"""Directions of every kind, applied through one call and shown by a small generator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.packs.tiny import GENERATOR, write_tiny_pack
from vidinv.editing.directions import Direction, Directions, read_direction
from vidinv.errors import PackError, UnknownNameError
from vidinv.packs import Pack, load_pack, write_pack

L, D = GENERATOR.num_ws, GENERATOR.w_dim
HERE = "a" * 64
TENSORS = {
    "plain": torch.arange(D) / D + 1,
    "wide": torch.arange(L * D).reshape(L, D) / D + 1,
    "styled/b8.conv0": torch.ones(GENERATOR.style_channels["b8.conv0"]),
    "styled/b32.torgb": 2 * torch.ones(GENERATOR.style_channels["b32.torgb"]),
    "odd/b8.conv7": torch.ones(8),
    "short/b8.conv0": torch.ones(3),
    "turned": torch.ones(D),
    "turned.outline": torch.full((27, 2), 0.05),
    "bent": torch.ones(D),
    "bent.outline": torch.ones(17, 2),
}
ENTRY = {"positive": "more", "strength_range": [-2, 2]}


def read(name: str, *, sizes=GENERATOR, **entry) -> Direction:
    return read_direction(name, {**ENTRY, **entry}, TENSORS, generator=sizes, generator_digest=HERE)


def applied(direction: Direction, strengths: list[float]):
    latents = torch.randn(len(strengths), L, D)
    directions = Directions({direction.name: direction})
    return latents, directions.apply(latents, {direction.name: torch.tensor(strengths)})


def test_a_direction_in_w_changes_every_row_alike():
    latents, edited = applied(read("plain", space="w"), [0.0, 2.0])
    change = edited.latents_NLD - latents
    assert torch.equal(change[0], torch.zeros(L, D))
    torch.testing.assert_close(change[1], (2 * TENSORS["plain"]).expand(L, D))
    assert edited.style_offsets == {}


def test_a_direction_in_w_plus_changes_every_row_in_its_own_way():
    latents, edited = applied(read("wide", space="w+"), [-1.0])
    torch.testing.assert_close(edited.latents_NLD[0] - latents[0], -TENSORS["wide"])


@pytest.mark.parametrize(("name", "space"), [("plain", "w"), ("wide", "w+")])
def test_layers_limit_the_rows(name, space):
    latents, edited = applied(read(name, space=space, layers=[2, 3]), [1.0])
    change = edited.latents_NLD[0] - latents[0]
    full = TENSORS[name].expand(L, D)
    torch.testing.assert_close(change[2:4], full[2:4])
    assert torch.equal(edited.latents_NLD[0, :2], latents[0, :2])
    assert torch.equal(edited.latents_NLD[0, 4:], latents[0, 4:])


def test_a_direction_in_style_leaves_the_latents_and_offsets_its_layers():
    latents, edited = applied(read("styled", space="style"), [1.0, -0.5])
    assert torch.equal(edited.latents_NLD, latents)
    assert set(edited.style_offsets) == {"b8.conv0", "b32.torgb"}
    assert torch.equal(edited.style_offsets["b8.conv0"][:, 0], torch.tensor([1.0, -0.5]))
    assert torch.equal(edited.style_offsets["b32.torgb"][:, 0], torch.tensor([2.0, -1.0]))


def test_directions_of_all_kinds_add_up():
    kinds = [read("plain", space="w"), read("wide", space="w+"), read("styled", space="style")]
    twin = Direction("twin", None, "", (0, 1), {"b8.conv0": torch.ones(8)})
    directions = Directions({d.name: d for d in [*kinds, twin]})
    latents = torch.randn(1, L, D)
    ones = {name: torch.ones(1, dtype=torch.float64) for name in directions.names()}
    edited = directions.apply(latents, ones)
    assert edited.latents_NLD.dtype == torch.float32
    torch.testing.assert_close(
        edited.latents_NLD[0] - latents[0], TENSORS["plain"] + TENSORS["wide"]
    )
    assert torch.equal(edited.style_offsets["b8.conv0"], torch.full((1, 8), 2.0))


def test_no_direction_changes_nothing():
    latents = torch.randn(2, L, D)
    edited = Directions({}).apply(latents, {})
    assert edited.latents_NLD is latents
    assert edited.style_offsets == {}
    with pytest.raises(UnknownNameError, match="unknown attribute 'smile'"):
        Directions({}).apply(latents, {"smile": torch.ones(2)})


def test_outlines_add_up_and_one_that_nobody_measured_is_left_out():
    directions = Directions({n: read(n, space="w") for n in ("turned", "plain")})
    strengths = {"turned": torch.tensor([0.0, 2.0]), "plain": torch.ones(2)}
    shift = directions.outline_shift(strengths)
    assert shift.shape == (2, 27, 2)
    assert shift[:, 0, 0].tolist() == pytest.approx([0.0, 0.1])
    assert directions.outline_shift({"plain": torch.ones(2)}) is None


class WithoutStyles:
    """A generator that has z alone, as PGGAN has."""

    kind, latent_spaces, num_ws, w_dim = "pggan", ("z",), 1, 8


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("plain", {}, r"space must be one of w, w\+, style, got None"),
        ("plain", {"space": "p"}, r"space must be one of w, w\+, style, got 'p'"),
        ("plain", {"space": ["w"]}, r"space must be one of .* got \['w'\]"),
        ("plain", {"space": "w+"}, r"a direction in w\+ is \[8, 8\], got \[8\]"),
        ("wide", {"space": "w"}, r"a direction in w is \[8\], got \[8, 8\]"),
        ("absent", {"space": "w"}, "its file has no tensor absent"),
        ("absent", {"space": "style"}, "its file has no tensor absent/LAYER"),
        ("odd", {"space": "style"}, r"the generator has no layer 'b8\.conv7'"),
        ("short", {"space": "style"}, r"the style of b8\.conv0 is \[8\], got \[3\]"),
        ("styled", {"space": "style", "layers": [0, 1]}, "layers are rows of w"),
        *[
            ("plain", {"space": "w", "layers": layers}, r"layers must be \[first, last\] within 0")
            for layers in ([3, 2], [0, 8], [-1, 2], [1], 3, "01", [True, 2], [0.0, 1.0])
        ],
        ("plain", {"space": "w", "positive": 3}, "positive must be words, got 3"),
        ("plain", {"space": "w", "strength_range": [2, -2]}, "strength_range must be"),
        ("plain", {"space": "w", "strength_range": None}, "strength_range must be"),
        ("plain", {"space": "w", "strength_range": ["a", "b"]}, "strength_range must be"),
        ("plain", {"space": "w", "generator": "b" * 64}, "made for another generator"),
        ("plain", {"space": "w", "generator": 7}, "made for another generator"),
        ("bent", {"space": "w"}, r"its outline is \[27, 2\], got \[17, 2\]"),
    ],
)
def test_what_does_not_fit_is_refused(name, entry, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(name, **entry)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("space", ["w", "w+", "style"])
def test_a_space_that_the_generator_lacks_is_refused(space):
    expected = r"which a generator of kind pggan lacks \(it has: z\)"
    with pytest.raises(ValueError, match=expected):
        read("plain", sizes=WithoutStyles(), space=space)


def pack_with(folder: Path, **entries) -> Pack:
    """The tiny pack with further directions."""
    tiny = load_pack(write_tiny_pack(folder / "tiny"))
    tensors = {name: tiny.files.tensors(name) for name in tiny.meta["files"]}
    tensors["directions.safetensors"] |= TENSORS
    own = tiny.meta["directions"]
    added = {name: {**ENTRY, **entry} for name, entry in entries.items()}
    directions = {**own, "entries": {**own["entries"], **added}}
    write_pack(folder / "made", {**tiny.meta, "directions": directions}, tensors)
    return load_pack(folder / "made")


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("plain", {"space": "w"}),
        ("plain", {"space": "w", "layers": [3, 5]}),
        ("wide", {"space": "w+"}),
        ("styled", {"space": "style"}),
    ],
)
def test_every_kind_of_a_pack_moves_its_generators_picture(tmp_path, name, entry):
    pack = pack_with(tmp_path, **{name: entry})
    latents = torch.randn(3, L, D)
    strengths = torch.tensor([0.0, 1.0, -2.0])
    edited = pack.directions().apply(latents, {name: strengths})
    synthesis = pack.generator.synthesis
    before = synthesis(latents)
    after = synthesis(edited.latents_NLD, style_offsets=edited.style_offsets)
    change = (after - before).abs().amax(dim=(1, 2, 3))
    assert change[0] == 0
    assert change[1] > 1e-3
    assert change[2] > change[1]


@torch.no_grad()
def test_an_inverter_renders_style_edits(tmp_path):
    pack = pack_with(tmp_path, styled={"space": "style"})
    inverter = pack.inverter("fse")
    inversion = inverter.encode(torch.rand(2, 3, 32, 32) * 2 - 1)
    edited = pack.directions().apply(inversion.latents_NLD, {"styled": torch.tensor([0.0, 2.0])})
    assert not edited.equals(inversion.unedited)
    rendered = inverter.render(inversion, inversion.unedited)
    changed = (inverter.render(inversion, edited) - rendered).abs().amax(dim=(1, 2, 3))
    assert changed[0] == 0
    assert changed[1] > 1e-3


def rewrite_direction(pack: Pack, name: str, **changes) -> Pack:
    path = pack.folder / "pack.json"
    meta = json.loads(path.read_text())
    entry = meta["directions"]["entries"][name] | changes
    meta["directions"]["entries"][name] = {k: v for k, v in entry.items() if v is not None}
    path.write_text(json.dumps(meta))
    return load_pack(pack.folder)


def test_a_written_pack_says_which_generator_its_directions_belong_to(tmp_path):
    pack = pack_with(tmp_path, plain={"space": "w"})
    digest = pack.files.digest("generator.safetensors")
    assert pack.meta["directions"]["entries"]["plain"]["generator"] == digest
    old = rewrite_direction(pack, "plain", generator=None)  # as packs were before
    assert "plain" in old.directions().names()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"generator": "0" * 64}, "made for another generator (weights 000000000000..., here "),
        ({"space": "z"}, "space must be one of w, w+, style, got 'z'"),
        ({"layers": [0, 99]}, "layers must be [first, last] within 0..7, got [0, 99]"),
    ],
)
def test_a_pack_refuses_a_direction_with_the_reason(tmp_path, changes, reason):
    pack = rewrite_direction(pack_with(tmp_path, plain={"space": "w"}), "plain", **changes)
    with pytest.raises(PackError) as caught:
        pack.directions()
    assert str(caught.value).startswith(f"pack tiny: direction 'plain': {reason}")
    assert "\n" not in str(caught.value)
