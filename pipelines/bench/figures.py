"""Pictures of what methods add to the picture of their latents.

Of inversion (HyperInverter, figures 8, 11-14) a sheet for every method: source, G(w), the method's
picture, and a heat map of what lies between these two. For methods with other codes the heat map
over all faces, and for those that change weights how much they change each layer. Of editing
(Feature-Style supplement, figure 2) a sheet for every method: the same, edited.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.bench.methods import (
    InvertedFaces,
    edited_latents,
    edited_pictures,
    pictures_of_latents,
)
from vidinv.inversion import Inverter
from vidinv.inversion.hyper import WEIGHTS
from vidinv.packs import Pack
from vidinv.rendering import Float32
from vidinv.sheets import Picture, captioned, resized, sheet
from vidinv.video import write_image

SHEET_FACES = 12
EDITED_FACES = 6
TILE_PX = 160
BAR_PX, BAR_HEIGHT_PX, NAME_PX = 640, 18, 120
ALMOST_ALL = 99  # percentile of a heat map that is shown as its largest value

Tiles = list[tuple[str, Float32 | Picture]]


class InversionFigures:
    """Collects batches and writes PNG files into a folder, by method."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[Path] = []
        self._rows: dict[str, list[tuple[Float32, Float32, Float32]]] = defaultdict(list)
        self._difference: dict[str, Float32] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._residuals: dict[str, dict[str, list[float]]] = defaultdict(dict)

    def add(self, method: str, batch: InvertedFaces, pack: Pack) -> None:
        """Take in a batch."""
        of_latents = pictures_of_latents(pack, batch.inversion.latents_NLD)
        difference = grey_difference(batch.pictures, of_latents)
        total = difference.sum(axis=0) + self._difference.get(method, np.float32(0))
        self._difference[method] = total
        self._counts[method] += len(batch.faces)
        sources = [face.aligned for face in batch.faces]
        left = SHEET_FACES - len(self._rows[method])
        triples = list(zip(sources, of_latents, batch.pictures, strict=True))
        self._rows[method] += triples[:left]
        for layer, change in residual_sizes(batch).items():
            self._residuals[method].setdefault(layer, []).extend(change)

    def draw(self) -> None:
        """Write all of it; ``written`` names the files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for method, rows in self._rows.items():
            name = file_stem(method)
            self._write(f"{name}_faces.png", faces_sheet(rows))
            mean = self._difference[method] / self._counts[method]
            if mean.max() > 0:
                tile = resized(heat_map(mean), 2 * TILE_PX)
                text = f"|picture - G(w)|, 0 to {np.percentile(mean, ALMOST_ALL):.1f} of 255"
                self._write(f"{name}_difference.png", captioned(tile, text))
            if self._residuals[method]:
                sizes = {k: float(np.mean(v)) for k, v in self._residuals[method].items()}
                self._write(f"{name}_residuals.png", bars(sizes))

    def _write(self, name: str, picture: Picture) -> None:
        write_image(self.folder / name, picture)
        self.written.append(self.folder / name)


class EditingFigures:
    """Collects faces and writes a PNG file a method into a folder: source, G(w) and the method's
    picture, then G(w~) and the method's picture of every edit.

    Args:
        strength: of the edits that are shown.
    """

    def __init__(self, folder: Path, strength: float) -> None:
        self.folder, self.strength = folder, strength
        self.written: list[Path] = []
        self._rows: dict[str, list[Tiles]] = defaultdict(list)

    def add(
        self,
        method: str,
        batch: InvertedFaces,
        inverter: Inverter,
        pack: Pack,
        attributes: Sequence[str],
    ) -> None:
        """Take in the first faces of a batch, until the sheet has enough."""
        left = EDITED_FACES - len(self._rows[method])
        if left <= 0:
            return
        directions = pack.directions()
        columns: list[tuple[str, Sequence[Float32] | Float32]] = [
            ("source", [face.aligned for face in batch.faces]),
            ("G(w)", pictures_of_latents(pack, batch.inversion.latents_NLD)),
            (method, batch.pictures),
        ]
        for name in attributes:
            strengths, title = {name: self.strength}, f"{name} {self.strength:+g}"
            latents = edited_latents(batch, directions, strengths).latents_NLD
            columns.append((f"{title}: G(w)", pictures_of_latents(pack, latents)))
            edited = edited_pictures(inverter, batch, directions, strengths)
            columns.append((f"{title}: {method}", edited))
        for face in range(min(left, len(batch.faces))):
            self._rows[method].append([(title, column[face]) for title, column in columns])

    def draw(self) -> None:
        """Write all of it; ``written`` names the files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for method, rows in self._rows.items():
            path = self.folder / f"{file_stem(method)}_edits.png"
            write_image(path, sheet(rows, side_px=TILE_PX))
            self.written.append(path)


def file_stem(method: str) -> str:
    """A method, also one set otherwise than the pack says, as part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", method)


def grey_difference(first_NRR3: Float32, second_NRR3: Float32) -> Float32:
    """``[N, R, R]`` |first - second| as grey (appendix C.2), 0..255."""
    difference = np.abs(first_NRR3 - second_NRR3)
    return np.stack([cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in difference])


def residual_sizes(batch: InvertedFaces) -> dict[str, list[float]]:
    """Layer -> mean absolute residual of its weight, of every face (section 4.5, figure 8)."""
    return {
        name.removeprefix(WEIGHTS): code.abs().flatten(1).mean(1).tolist()
        for name, code in batch.inversion.codes.items()
        if name.startswith(WEIGHTS)
    }


def heat_map(values_RR: npt.NDArray[np.floating]) -> Picture:
    """Blue for 0, red for what all but the last percent stay under: ``[R, R, 3]`` RGB."""
    largest = max(float(np.percentile(values_RR, ALMOST_ALL)), 1e-6)
    levels = np.rint(255 * np.clip(values_RR / largest, 0, 1)).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_JET)[..., ::-1], np.uint8)


def faces_sheet(rows: list[tuple[Float32, Float32, Float32]]) -> Picture:
    """A row a face: source, G(w), the method's picture, and the heat map between these two."""
    lines: list[Tiles] = []
    for source, of_latents, made in rows:
        difference = grey_difference(made[None], of_latents[None])[0]
        titles = ("source", "G(w)", "inversion", "inversion - G(w)")
        pictures = (source, of_latents, made, heat_map(difference))
        lines.append(list(zip(titles, pictures, strict=True)))
    return sheet(lines, side_px=TILE_PX)


def bars(sizes: dict[str, float]) -> Picture:
    """Mean absolute residual of every layer as bars, in the order in which layers run."""
    height = BAR_HEIGHT_PX * len(sizes)
    picture: npt.NDArray[np.uint8] = np.full((height, NAME_PX + BAR_PX, 3), 255, np.uint8)
    largest = max(sizes.values()) or 1.0
    for number, (layer, size) in enumerate(sizes.items()):
        top = number * BAR_HEIGHT_PX
        colour = (200, 120, 60) if layer.endswith("torgb") else (70, 110, 180)
        length = round((BAR_PX - 90) * size / largest)
        picture[top + 3 : top + BAR_HEIGHT_PX - 3, NAME_PX : NAME_PX + length] = colour
        for text, x in ((layer, 4), (f"{size:.2g}", NAME_PX + length + 4)):
            where = (x, top + BAR_HEIGHT_PX - 5)
            cv2.putText(
                picture, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA
            )
    return captioned(picture, "mean absolute residual of the weights, by layer")
