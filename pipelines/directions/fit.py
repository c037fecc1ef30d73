"""``vidinv directions fit``: a copy of a pack with directions of its generator added.

Strength 1 is one standard deviation of
w along the direction, so that all of them are alike; those that come with a pack are calibrated by
what they change instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pipelines.attributes import AttributeReader
from pipelines.process import set_up_process
from pipelines.still_faces import FaceFinder
from vidinv.editing import fitting
from vidinv.errors import UnknownNameError, UsageError
from vidinv.faces import Backend, dlib_backend
from vidinv.faces.aligned import AlignedFaces
from vidinv.generators.base import Generator
from vidinv.packs import Pack
from vidinv.packs.format import copy_with_directions
from vidinv.rendering import Float32, to_array

Kind = Literal["interfacegan", "sefa", "ganspace"]
KINDS = ("interfacegan", "sefa", "ganspace")
SAMPLES = {"interfacegan": 2000, "sefa": 2000, "ganspace": 10_000}
BATCH = 16
LANDMARK_SAMPLES = 24  # pictures that are searched for faces, to know where these lie
STRENGTH_RANGE = (-2.0, 2.0)
# Row of w+ that the first convolution reads; each one reads the row after that of the one before.
FIRST_ROWS = {"stylegan1": 0, "stylegan2": 0, "stylegan3": 1}


@dataclass(frozen=True)
class FitRequest:
    """What to find, and where the pack with it goes.

    Attributes:
        output: folder of the new pack; its name is the pack's.
        attributes: of ``interfacegan``.
        given: attributes that the directions leave alone, as far as a normal says.
        count: directions of ``sefa`` and ``ganspace``.
        num_samples: of w; None: ``SAMPLES``.
        share: ``fitting.separate``.
        layers: first and last row of w+ that the directions change; None: all.
    """

    pack: Pack
    kind: Kind
    output: Path
    attributes: Sequence[str] = ()
    given: Sequence[str] = ()
    count: int = 5
    num_samples: int | None = None
    share: float = 0.1
    layers: tuple[int, int] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """A direction before it stands in a pack; ``vector`` ``[D]`` is unit."""

    name: str
    vector: fitting.Float64
    positive: str
    note: str


def fit(
    request: FitRequest,
    *,
    backend: Backend | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """Write the pack with the directions; returns a line for each, for people.

    Args:
        backend: measures the samples of ``interfacegan``; dlib's if not given.
        tell: is told how far it is.

    Raises:
        UsageError: a request that makes no sense, or a generator that it does not suit.
    """
    _check(request)
    set_up_process()
    w = sample_latents(request.pack, request.num_samples or SAMPLES[request.kind], request.seed)
    if request.kind == "interfacegan":
        found = _interfacegan(request, w, backend or dlib_backend(), tell)
    elif request.kind == "sefa":
        found = _sefa(request)
    else:
        found = _ganspace(request, w)
    spread = fitting.spread_along(w, np.stack([one.vector for one in found]))
    vectors = {
        one.name: torch.from_numpy((one.vector * step).astype(np.float32))
        for one, step in zip(found, spread, strict=True)
    }
    copy_with_directions(request.pack.files, request.output, _entries(request, found), vectors)
    steps = zip(found, spread, strict=True)
    return [f"{one.name}\t+ {one.positive}\tunit {step:.3g}\t{one.note}" for one, step in steps]


def _check(request: FitRequest) -> None:
    if "w" not in request.pack.generator_config.latent_spaces:
        kind = request.pack.generator_config.kind
        raise UsageError(f"directions are found in W, which a generator of kind {kind} lacks")
    if request.kind == "interfacegan" and not request.attributes:
        raise UsageError("name the attributes to find: --attr smile")
    if request.kind != "interfacegan" and (request.attributes or request.given):
        raise UsageError(f"{request.kind} takes neither --attr nor --given")
    if both := sorted({*request.attributes} & {*request.given}):
        raise UsageError(f"{both[0]} is to be found and to be held at once")
    if request.count < 1:
        raise UsageError(f"--count must be 1 at least, got {request.count}")
    rows = request.pack.generator_config.num_ws
    if request.layers is not None and not 0 <= request.layers[0] <= request.layers[1] < rows:
        raise UsageError(f"--layers must lie within 0-{rows - 1}")
    if request.output.exists():
        raise UsageError(f"{request.output} exists: give another folder for the new pack")


@torch.inference_mode()
def sample_latents(pack: Pack, count: int, seed: int) -> fitting.Float64:
    """``[count, D]`` of w, float64."""
    z = torch.randn(
        count, pack.generator_config.z_dim, generator=torch.Generator().manual_seed(seed)
    )
    return np.asarray(pack.generator.mapping(z).double().numpy())


def _interfacegan(
    request: FitRequest, w_MD: fitting.Float64, backend: Backend, tell: Callable[[str], None]
) -> list[Found]:
    scores = _scores(request.pack, w_MD, backend, tell)
    wanted = [*request.attributes, *request.given]
    for name in wanted:
        if name not in scores:
            raise UnknownNameError("attribute with a measure", name, scores)
    try:
        found = {
            name: fitting.separate(w_MD, scores[name], share=request.share, seed=request.seed)
            for name in dict.fromkeys(wanted)
        }
        held = [found[name].normal for name in request.given]
        return [
            Found(
                f"interfacegan_{name}",
                fitting.orthogonal_to(found[name].normal, held),
                f"more of what {name} measures",
                f"{found[name].accuracy:.0%} of held-out samples on the right side",
            )
            for name in dict.fromkeys(request.attributes)
        ]
    except ValueError as error:
        raise UsageError(f"interfacegan: {error}") from error


def _scores(
    pack: Pack, w_MD: fitting.Float64, backend: Backend, tell: Callable[[str], None]
) -> dict[str, fitting.Float64]:
    """Attribute -> ``[M]``, measured on the generator's pictures."""
    reader, parts = None, []
    for start in range(0, len(w_MD), BATCH):
        pictures = _pictures(pack, w_MD[start : start + BATCH])
        reader = reader or AttributeReader(_aligned(pack, w_MD, backend), pack)
        parts.append(reader(pictures))
        if start // BATCH % 10 == 0:
            tell(f"measured {start + len(pictures)} of {len(w_MD)} pictures")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _aligned(pack: Pack, w_MD: fitting.Float64, backend: Backend) -> AlignedFaces:
    """Measures the generator's faces where those of some samples were found."""
    finder = FaceFinder(pack, backend, aligned=True)
    pictures = _pictures(pack, w_MD[:LANDMARK_SAMPLES]).round().astype(np.uint8)
    faces = [finder.align(Path("sample"), n, picture) for n, picture in enumerate(pictures)]
    landmarks = [face.landmarks for face in faces if face is not None]
    if not landmarks:
        raise UsageError("no face found in the generator's pictures: attributes cannot be measured")
    return AlignedFaces(np.mean(landmarks, axis=0), backend)


@torch.inference_mode()
def _pictures(pack: Pack, w_ND: fitting.Float64) -> Float32:
    latents = pack.generator.broadcast(torch.from_numpy(w_ND).float())
    return to_array(pack.generator.synthesis(latents))


def _sefa(request: FitRequest) -> list[Found]:
    vectors = fitting.closed_form(
        style_weights(request.pack.generator, request.layers), count=request.count
    )
    return [
        Found(f"sefa_{n}", vector, f"eigenvector {n} of the styles", "")
        for n, vector in enumerate(vectors)
    ]


def style_weights(generator: Generator, layers: tuple[int, int] | None) -> list[fitting.Float64]:
    """``[C, D]`` by which every convolution reads w; those of ToRGB change colours alone.

    Args:
        layers: of the convolutions that read these rows of w+.

    Raises:
        UsageError: a family without styles, or rows that no convolution reads.
    """
    kind = generator.kind
    if kind not in FIRST_ROWS:
        raise UsageError(f"sefa reads style weights, which a generator of kind {kind} lacks")
    names = [name for name in generator.config.style_channels if not name.endswith("torgb")]
    if kind == "stylegan3":
        names = names[:-1]  # its last layer is ToRGB
    first, last = layers or (0, generator.num_ws)
    rows = range(FIRST_ROWS[kind], FIRST_ROWS[kind] + len(names))
    chosen = [name for name, row in zip(names, rows, strict=True) if first <= row <= last]
    if not chosen:
        raise UsageError(f"sefa: no convolution reads rows {first} to {last}")
    modules: Any = generator.synthesis
    found = [modules.get_submodule(name) for name in chosen]
    affines = [module.style if kind == "stylegan1" else module.affine for module in found]
    return [affine.weight.detach().double().numpy() for affine in affines]


def _ganspace(request: FitRequest, w_MD: fitting.Float64) -> list[Found]:
    vectors = fitting.principal(w_MD, count=request.count)
    shares = fitting.spread_along(w_MD, vectors) ** 2 / w_MD.var(axis=0).sum()
    return [
        Found(f"ganspace_{n}", vector, f"principal component {n} of w", f"{share:.1%} of variance")
        for n, (vector, share) in enumerate(zip(vectors, shares, strict=True))
    ]


def _entries(request: FitRequest, found: Sequence[Found]) -> dict[str, Any]:
    layers = {} if request.layers is None else {"layers": list(request.layers)}
    return {
        one.name: {
            "space": "w",
            "positive": one.positive,
            "strength_range": list(STRENGTH_RANGE),
            "checked": False,
            **layers,
        }
        for one in found
    }
