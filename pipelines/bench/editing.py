"""``vidinv bench editing``: what the same edit does in every method.

As HyperInverter's table 2 and ReGANIE's table 2: fixed magnitudes along the pack's directions, the
mean change of the attribute as it is measured on the generator's own pictures, edited against
unedited, and identity similarity of the edited picture with the source. The papers read age and
pose by networks that are not to be had offline: here attributes are read from landmarks and pixels,
and those without a measure have identity alone. FID is that of all edited pictures of a method
against the sources (Feature-Style paper, table 2); so are PSNR and SSIM, the fine-tuning paper's
table 8: how much of the photograph an edit leaves as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.attributes import UNITS, AttributeReader
from pipelines.bench.crowd import SourceCrowd, joined
from pipelines.bench.figures import EditingFigures
from pipelines.bench.methods import (
    BenchFaces,
    BenchRequest,
    chosen_methods,
    edited_pictures,
    invert_all,
    load_method,
)
from pipelines.bench.table import Column, table_lines
from pipelines.process import set_up_process
from pipelines.still_faces import as_batch
from vidinv.faces import Backend, dlib_backend
from vidinv.metrics import psnr_batch, ssim_batch
from vidinv.metrics.image import SSIM_WINDOW
from vidinv.rendering import Float32, to_tensor
from vidinv.types import RenderMode

MAGNITUDES = (-2.0, -1.0, 1.0, 2.0)
CROWD_COLUMNS = (
    Column("method", "all edited pictures"),
    Column("psnr", "PSNR", 2),
    Column("ssim", "SSIM", 3),
    Column("fid", "FID", 2),
    Column("kid", "KID", 2),
)


@dataclass(frozen=True)
class EditingBench:
    """A row for every attribute, magnitude and method: ``change`` and ``identity``, means.

    Attributes:
        crowd: of all edited pictures, by method: means of ``psnr`` and ``ssim`` to their sources,
            ``fid`` and ``kid``.
    """

    pack: str
    faces: int
    methods: Sequence[str]
    rows: Sequence[dict[str, Any]]
    crowd: Mapping[str, Mapping[str, float | None]]
    notes: Sequence[str]

    def lines(self) -> list[str]:
        """For people: attributes and magnitudes down, methods across."""
        lines = [f"{self.faces} faces, pack {self.pack}"]
        for key, title in (("change", "change of the attribute"), ("identity", "identity")):
            columns = [Column("what", title), *(Column(m, m, 3) for m in self.methods)]
            lines += ["", *table_lines(columns, self._across(key))]
        distances = [{"method": method, **self.crowd[method]} for method in self.methods]
        lines += ["", *table_lines(CROWD_COLUMNS, distances)]
        return [*lines, "", *(f"note: {note}" for note in self.notes)]

    def _across(self, key: str) -> list[dict[str, Any]]:
        lines: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            what = f"{row['attribute']} {row['magnitude']:+g}"
            lines.setdefault(what, {"what": what})[row["method"]] = row[key]
        return list(lines.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain types only."""
        return {
            "pack": self.pack,
            "faces": self.faces,
            "rows": list(self.rows),
            "crowd": {method: dict(found) for method, found in self.crowd.items()},
            "units": {name: UNITS[name] for name in UNITS if self._measures(name)},
            "notes": list(self.notes),
        }

    def _measures(self, name: str) -> bool:
        return any(row["attribute"] == name and row["change"] is not None for row in self.rows)


def measure_editing(
    request: BenchRequest,
    *,
    attributes: Sequence[str] = (),
    magnitudes: Sequence[float] = MAGNITUDES,
    figures: EditingFigures | None = None,
    backend: Backend | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> EditingBench:
    """Edit all faces by every method and measure.

    Args:
        attributes: names; none: all of the pack.
        magnitudes: strengths of the pack's directions.
        figures: also draws them.
        backend: finds faces, places landmarks and recognises; dlib's if not given.
        tell: is told which method is at work.

    Raises:
        UsageError: an unknown method or attribute, or no face.
        DecodeError: an input that cannot be read.
    """
    set_up_process()
    (methods, left_out), directions = chosen_methods(request), request.pack.directions()
    names = [directions[name].name for name in attributes or directions.names()]
    faces = BenchFaces(request, backend or dlib_backend())
    meter = AttributeReader(faces.meter, request.pack)
    sums: dict[tuple[str, float, str], _Mean] = {}
    sources, crowd = SourceCrowd(faces, request.pack.resolution), {}
    for method in methods:
        tell(f"{method}: {len(faces.all)} faces, {len(names) * len(magnitudes)} edits")
        inverter, features = load_method(request, method), []
        nearness = _Nearness(request.pack.resolution)
        for batch in invert_all(inverter, faces, mode=RenderMode.PASTE):
            before, source = meter(batch.pictures), as_batch(batch.faces)
            if figures is not None:
                figures.add(method, batch, inverter, request.pack, names)
            for name in names:
                for magnitude in magnitudes:
                    edited = edited_pictures(inverter, batch, directions, {name: magnitude})
                    features.append(sources.features(edited))
                    nearness.add(edited, source)
                    after = meter(edited).get(name)
                    mean = sums.setdefault((name, magnitude, method), _Mean())
                    change = None if after is None else after - before[name]
                    mean.add(change, faces.identity(batch.faces, edited))
        crowd[method] = {**nearness.figures(), **sources.distances(joined(features))}
    if figures is not None:
        figures.draw()
    rows = [
        {"attribute": name, "magnitude": value, "method": method, **mean.figures()}
        for (name, value, method), mean in sorted(sums.items(), key=lambda item: item[0][:2])
    ]
    notes = [*faces.notes, *meter.notes(names), *sources.notes, *left_out]
    return EditingBench(request.pack.name, len(faces.all), methods, rows, crowd, notes)


class _Nearness:
    """PSNR and SSIM of edited pictures to the sources of their faces; SSIM needs its window."""

    def __init__(self, side_px: int) -> None:
        self._has_ssim = side_px >= SSIM_WINDOW
        self._psnr: list[Tensor] = []
        self._ssim: list[Tensor] = []

    def add(self, pictures_NRR3: Float32, source_N3RR: Tensor) -> None:
        made = to_tensor(pictures_NRR3)
        self._psnr.append(psnr_batch(made, source_N3RR))
        if self._has_ssim:
            self._ssim.append(ssim_batch(made, source_N3RR))

    def figures(self) -> dict[str, float | None]:
        named = {"psnr": self._psnr, "ssim": self._ssim}
        return {
            name: round(float(torch.cat(parts).mean()), 5) if parts else None
            for name, parts in named.items()
        }


class _Mean:
    """Of the change, where it is measured, and of identity."""

    def __init__(self) -> None:
        self._changes: list[npt.NDArray[np.float64]] = []
        self._identities: list[Float32] = []

    def add(self, change_N: npt.NDArray[np.float64] | None, identity_N: Float32) -> None:
        if change_N is not None:
            self._changes.append(change_N)
        self._identities.append(identity_N)

    def figures(self) -> dict[str, float | None]:
        change = float(np.concatenate(self._changes).mean()) if self._changes else None
        identity = float(np.concatenate(self._identities).mean())
        return {
            "change": None if change is None else round(change, 5),
            "identity": round(identity, 5),
        }
