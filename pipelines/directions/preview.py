"""``vidinv directions preview``: a sheet of every direction, faces down and strengths across."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipelines.clip.networks import Networks
from pipelines.process import set_up_process
from pipelines.still_faces import FaceFinder, as_batch, collect_faces
from vidinv.editing.directions import Directions
from vidinv.errors import UsageError
from vidinv.faces import Backend
from vidinv.packs import Pack
from vidinv.rendering import Float32, to_array
from vidinv.sheets import sheet
from vidinv.types import EditedLatents, RenderMode
from vidinv.video import write_image

TRUNCATION = 0.5  # of faces of the generator's own: near the mean, where it is at its best
NUM_FACES, TILE_PX = 4, 160
STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)


@dataclass(frozen=True)
class PreviewRequest:
    """Directions to look at.

    Attributes:
        folder: of the sheets.
        names: of the pack's directions; none: all.
        inputs: pictures, clips and folders; none: faces of the generator's own.
    """

    pack: Pack
    folder: Path
    names: Sequence[str] = ()
    inputs: Sequence[Path] = ()
    method: str = "fse"
    device: str = "auto"
    strengths: Sequence[float] = STRENGTHS
    num_faces: int = NUM_FACES
    seed: int = 0


def preview(request: PreviewRequest, *, backend: Backend | None = None) -> list[Path]:
    """Write a sheet for every direction, faces down and strengths across; returns their paths.

    Raises:
        UsageError: an unknown direction, or inputs without a face.
    """
    if request.num_faces < 1:
        raise UsageError(f"--faces must be 1 at least, got {request.num_faces}")
    directions = request.pack.directions()
    names = [directions[name].name for name in request.names or directions.names()]
    set_up_process()
    render = _of_inputs(request, backend) if request.inputs else _of_samples(request)
    request.folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in names:
        columns = [render(directions, name, strength) for strength in request.strengths]
        rows = [
            [
                (f"{strength:+g} {name}", picture)
                for strength, picture in zip(request.strengths, row, strict=True)
            ]
            for row in zip(*columns, strict=True)
        ]
        path = request.folder / (re.sub(r"[^\w.-]", "_", name) + ".png")
        write_image(path, sheet(rows, side_px=TILE_PX))
        written.append(path)
    return written


Render = Callable[[Directions, str, float], Float32]


def _of_samples(request: PreviewRequest) -> Render:
    """Of the generator's own faces, near the mean one."""
    generator = request.pack.generator
    random = torch.Generator().manual_seed(request.seed)
    z = torch.randn(request.num_faces, request.pack.generator_config.z_dim, generator=random)
    with torch.inference_mode():
        latents = generator.broadcast(generator.mapping(z, truncation=TRUNCATION))

    @torch.inference_mode()
    def render(directions: Directions, name: str, strength: float) -> Float32:
        edited = _edited(directions, latents, name, strength)
        return to_array(generator.synthesis(edited.latents_NLD, style_offsets=edited.style_offsets))

    return render


def _of_inputs(request: PreviewRequest, backend: Backend | None) -> Render:
    """Of faces of pictures and clips, inverted by the method."""
    networks = Networks(request.pack, request.method, device=request.device)
    finder = FaceFinder(request.pack, backend or networks.backend)
    groups = collect_faces(request.inputs, finder, frames_per_clip=1, limit=request.num_faces)
    inverter = networks.inverter
    state = inverter.fit(as_batch(groups[0])) if inverter.sample_frames else None
    if state is not None and len(groups) > 1:
        raise UsageError(f"{request.method} is fitted to one face: give one picture")
    inversion = inverter.encode(
        as_batch([face for group in groups for face in group]), state, mode=RenderMode.PASTE
    )

    def render(directions: Directions, name: str, strength: float) -> Float32:
        edited = _edited(directions, inversion.latents_NLD, name, strength)
        return to_array(inverter.render(inversion, edited, state, mode=RenderMode.PASTE))

    return render


def _edited(
    directions: Directions, latents_NLD: torch.Tensor, name: str, strength: float
) -> EditedLatents:
    return directions.apply(latents_NLD, {name: torch.full([len(latents_NLD)], strength)})
