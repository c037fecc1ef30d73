"""``vidinv bench inversion``: how well methods give faces back (HyperInverter, table 1).

L2, PSNR, SSIM, MS-SSIM, LPIPS, identity, FID, KID and milliseconds a face, on the generator's own
pictures at its own size: nothing is pasted. FID and KID read EfficientNet-lite0, not InceptionV3,
so they compare with each other alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.bench.crowd import SourceCrowd, joined
from pipelines.bench.figures import InversionFigures
from pipelines.bench.methods import (
    BenchFaces,
    BenchRequest,
    InvertedFaces,
    chosen_methods,
    invert_all,
    load_method,
)
from pipelines.bench.table import Column, table_lines
from pipelines.process import set_up_process
from pipelines.still_faces import as_batch
from vidinv.faces import Backend, dlib_backend
from vidinv.metrics import LPIPS, ms_ssim_batch, psnr_batch, ssim_batch
from vidinv.metrics.image import SSIM_WINDOW, ms_ssim_scales
from vidinv.metrics.lpips import lpips_absent, usable_backbone
from vidinv.rendering import to_tensor

COLUMNS = (
    Column("method", "method"),
    Column("l2", "L2", 4),
    Column("psnr", "PSNR", 2),
    Column("ssim", "SSIM", 3),
    Column("ms_ssim", "MS-SSIM", 3),
    Column("lpips", "LPIPS", 3),
    Column("identity", "identity", 3),
    Column("fid", "FID", 2),
    Column("kid", "KID", 2),
    Column("ms", "ms a face", 1),
)


@dataclass(frozen=True)
class InversionBench:
    """A row for every method; figures are means over faces, None where they could not be had."""

    pack: str
    faces: int
    resolution: int
    rows: Sequence[dict[str, Any]]
    notes: Sequence[str]

    def lines(self) -> list[str]:
        """For people."""
        head = f"{self.faces} faces at {self.resolution} px, pack {self.pack}"
        return [head, *table_lines(COLUMNS, self.rows), *(f"note: {note}" for note in self.notes)]

    def as_dict(self) -> dict[str, Any]:
        """Plain types only."""
        return {
            "pack": self.pack,
            "faces": self.faces,
            "resolution": self.resolution,
            "rows": list(self.rows),
            "notes": list(self.notes),
        }


def measure_inversion(
    request: BenchRequest,
    *,
    figures: InversionFigures | None = None,
    backend: Backend | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> InversionBench:
    """Invert all faces by every method and compare.

    Args:
        figures: also draws what the methods did.
        backend: finds faces and recognises them; dlib's if not given.
        tell: is told which method is at work.

    Raises:
        UsageError: an unknown method, or no face.
        DecodeError: an input that cannot be read.
    """
    set_up_process()
    methods, left_out = chosen_methods(request)
    faces = BenchFaces(request, backend or dlib_backend())
    judge = _Judge(request, faces)
    rows = []
    for name in methods:
        tell(f"{name}: {len(faces.all)} faces")
        method = judge.method()
        for batch in invert_all(load_method(request, name), faces):
            method.add(batch)
            if figures is not None:
                figures.add(name, batch, request.pack)
        rows.append({"method": name, **method.figures()})
    if figures is not None:
        figures.draw()
    count = len(faces.all)
    return InversionBench(
        request.pack.name,
        count,
        request.pack.resolution,
        rows,
        [*faces.notes, *judge.notes, *left_out],
    )


class _Judge:
    """What all methods are measured with; ``notes`` say what is absent, and what figures mean."""

    def __init__(self, request: BenchRequest, faces: BenchFaces) -> None:
        side = request.pack.resolution
        self.faces = faces
        self.notes: list[str] = []
        backbone = usable_backbone(side)
        self.lpips = None if backbone is None else LPIPS(backbone)
        if backbone is None:
            self.notes.append(f"LPIPS is absent: {lpips_absent(side)}")
        elif backbone != "alex":
            self.notes.append(f"LPIPS has the backbone {backbone}; papers give that of alex")
        self.has_ssim = side >= SSIM_WINDOW
        scales = ms_ssim_scales(side)
        if 0 < scales < 5:
            self.notes.append(f"MS-SSIM has {scales} scales of 5: that is what {side} px hold")
        self.crowd = SourceCrowd(faces, side)
        self.notes += self.crowd.notes

    def method(self) -> _MethodMeter:
        return _MethodMeter(self)


class _MethodMeter:
    """Sums up one method."""

    def __init__(self, judge: _Judge) -> None:
        self._judge = judge
        self._values: dict[str, list[np.ndarray]] = {}
        self._features: list[Tensor | None] = []
        self._seconds, self._count = 0.0, 0

    @torch.inference_mode()
    def add(self, batch: InvertedFaces) -> None:
        judge = self._judge
        made, source = to_tensor(batch.pictures), as_batch(batch.faces)
        self._put("l2", (made - source).square().mean((1, 2, 3)))
        self._put("psnr", psnr_batch(made, source))
        if judge.has_ssim:
            self._put("ssim", ssim_batch(made, source))
            self._put("ms_ssim", ms_ssim_batch(made, source))
        if judge.lpips is not None:
            self._put("lpips", judge.lpips(made, source))
        identity = judge.faces.identity(batch.faces, batch.pictures)
        self._values.setdefault("identity", []).append(identity)
        self._features.append(judge.crowd.features(batch.pictures))
        self._seconds += batch.seconds
        self._count += len(batch.faces)

    def figures(self) -> dict[str, float | None]:
        """By the keys of ``COLUMNS``."""
        found: dict[str, float | None] = {
            column.key: None for column in COLUMNS if column.digits is not None
        }
        for name, parts in self._values.items():
            mean = float(np.concatenate(parts).mean())
            found[name] = mean if np.isfinite(mean) else None
        found |= self._judge.crowd.distances(joined(self._features))
        found["ms"] = 1000 * self._seconds / self._count
        return {name: None if v is None else round(v, 5) for name, v in found.items()}

    def _put(self, name: str, values_N: Tensor) -> None:
        self._values.setdefault(name, []).append(values_N.float().cpu().numpy())
