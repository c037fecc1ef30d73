"""How near the people that a pack draws from z come to its training faces: FID, KID and a sheet.

    python -m training.samples --pack faces-128 --faces data/faces --out out/samples

Several packs (``--pack`` again) are measured against the same faces, with the same z. Features are
those of EfficientNet-lite0 (vidinv.metrics.distribution), so the figures compare with each other
alone, for the same number of pictures. Some minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.data import FaceArrays, load
from training.loop import make_batch
from vidinv.errors import UsageError
from vidinv.generators.base import Generator
from vidinv.metrics import efficientnet
from vidinv.metrics.distribution import crowd_features, frechet_distance, kernel_distance
from vidinv.packs import load_pack

NUM_SAMPLES = 5000
BATCH = 16
SHEET_ROWS, SHEET_COLUMNS = 3, 8
SHEET_TRUNCATION = 0.7  # StyleGAN's figures have it (Karras et al. 2019, figure 2)


def draw_samples(
    generator: Generator, count: int, *, truncation: float = 1.0, seed: int = 0
) -> Iterator[Tensor]:
    """Batches ``[N, 3, R, R]`` of ``count`` pictures; the same z for the same seed."""
    device = next(generator.parameters()).device
    random = torch.Generator().manual_seed(seed)
    for start in range(0, count, BATCH):
        z = torch.randn(min(BATCH, count - start), generator.z_dim, generator=random).to(device)
        w = generator.mapping(z, truncation=truncation)
        yield generator.synthesis(generator.broadcast(w))


def train_features(data: FaceArrays, every: int = 1) -> Tensor:
    """Features of the training faces (``crowd_features``), of every n-th one."""
    indices = data.train_indices[::every]
    parts = np.array_split(indices, max(1, len(indices) // BATCH))
    return crowd_features(make_batch(data, part).images for part in parts)


@torch.inference_mode()
def samples_row(
    generator: Generator, faces_MC: Tensor, *, count: int = NUM_SAMPLES, truncation: float = 1.0
) -> dict[str, float]:
    """FID and KID of samples against the features of ``train_features``."""
    rows = crowd_features(draw_samples(generator, count, truncation=truncation))
    return {
        "fid": round(frechet_distance(rows, faces_MC), 3),
        "kid": round(kernel_distance(rows, faces_MC), 5),
    }


@torch.inference_mode()
def samples_sheet(generator: Generator, path: Path, *, truncation: float) -> None:
    """The first samples of seed 0 as one PNG."""
    drawn = draw_samples(generator, SHEET_ROWS * SHEET_COLUMNS, truncation=truncation)
    rows = torch.cat(list(drawn)).unflatten(0, (SHEET_ROWS, SHEET_COLUMNS))
    image = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)
    levels = image.add(1).mul(127.5).round().clamp(0, 255).byte().movedim(0, -1)
    Image.fromarray(levels.contiguous().cpu().numpy()).save(path)


def measure(names: list[str], faces: Path, out: Path, *, count: int, every: int) -> dict[str, Any]:
    """Rows by pack, as ``report.json`` gets them; sheets beside it.

    Raises:
        UsageError: EfficientNet-lite0 is not there, or packs have different sizes.
    """
    if reason := efficientnet.absent():
        raise UsageError(reason)
    packs = [load_pack(name) for name in names]
    if len({pack.resolution for pack in packs}) > 1:
        raise UsageError("packs of different sizes are not measured against the same faces")
    out.mkdir(parents=True, exist_ok=True)
    crowd = train_features(load(faces, packs[0].resolution), every)
    report: dict[str, Any] = {
        "features": efficientnet.NAME, "samples": count, "faces": len(crowd), "packs": {},
    }  # fmt: skip
    for name, pack in zip(names, packs, strict=True):
        report["packs"][name] = samples_row(pack.generator, crowd, count=count)
        for truncation in (SHEET_TRUNCATION, 1.0):
            sheet = out / f"{Path(name).name}_{truncation:g}.png"
            samples_sheet(pack.generator, sheet, truncation=truncation)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def main() -> None:
    """Parse arguments, measure, print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", action="append", required=True, metavar="NAME|PATH")
    parser.add_argument("--faces", type=Path, default=Path("data/faces"))
    parser.add_argument("--out", type=Path, default=Path("out/samples"))
    parser.add_argument("--count", type=int, default=NUM_SAMPLES, help="samples of each pack")
    parser.add_argument("--every", type=int, default=1, help="of every n-th training face")
    args = parser.parse_args()
    report = measure(args.pack, args.faces, args.out, count=args.count, every=args.every)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
