"""What a pack does to strangers: smile, identity, reconstruction, gain, leakage, FID, sheets.

    python -m training.evaluate --pack faces-128 --clips CLIPS --faces data/faces

Twenty neutral faces that training never saw are edited by the stages of ``vidinv edit`` and
measured on the composed pictures with landmarks (smile, mouth, eyes, pose) and a recognition
network (identity, age, gender): nothing shares the encoder's errors. 200 validation faces are
edited along every attribute, and the pictures composed as well.
Writes ``report.json`` and contact sheets. Needs dlib; a few minutes on one core. FID and KID are on
features of EfficientNet-lite0 (vidinv.metrics.distribution), where it is installed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from training.calibration import EDITS, AttributeMeter, ComposedFaces
from training.data import FaceArrays, load
from training.loop import make_batch
from training.method_rows import kept_edits, trained_inverters
from training.reconstruction import reconstruction_row
from training.samples import samples_row, train_features
from training.strangers import Edited, Stranger, clip_strangers, edit, val_strangers
from vidinv.faces import dlib_backend, extract_crop
from vidinv.faces.aligned import MEASURE_PX
from vidinv.geometry import transform_points
from vidinv.inversion.fse import FeatureStyleInverter
from vidinv.metrics import efficientnet
from vidinv.metrics.attributes import SmileMeasure
from vidinv.metrics.distribution import crowd_features, frechet_distance, kernel_distance
from vidinv.packs import Pack, load_pack
from vidinv.types import RenderMode

NUM_STRANGERS = 20
SMILE_STRENGTH = 1.5
# "Up clearly": half a standard deviation of the smile over people. The measure's own error on an
# unchanged face enlarged anew is 0.1-0.2.
CLEAR_SMILE = 0.5
# dlib calls two pictures the same person below 0.6; 0.4 leaves room for a second encoding.
SAME_PERSON = 0.4
RECONSTRUCTION_EVERY = 6  # of the validation faces
DISTRIBUTION_EVERY = 2  # of them: more faces than numbers in a feature
METER_EVERY = 6  # of the training faces, for the age and gender readers
VALIDATION_FACES = 200
TILE_PX = 224


@dataclass(frozen=True)
class Judge:
    """Everything that measures; built once."""

    data: FaceArrays
    meter: AttributeMeter
    strangers: Sequence[Stranger]

    def crops(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Aligned faces of composed frames, ``[N, MEASURE_PX, MEASURE_PX, 3]`` float32."""
        pairs = zip(self.strangers, pictures, strict=True)
        rows = [extract_crop(image, s.track.crop(0), MEASURE_PX) for s, image in pairs]
        return np.stack(rows).astype(np.float32)

    def originals(self) -> np.ndarray:
        return self.crops([s.frame.image for s in self.strangers])


def make_judge(pack: Pack, clips: Path, faces: Path) -> Judge:
    """Choose strangers and fit the measures on the training faces."""
    data = load(faces, pack.resolution)
    train = data.train_indices[::METER_EVERY]
    inverter = pack.inverter()
    assert isinstance(inverter, FeatureStyleInverter)
    meter = AttributeMeter(data, train)
    smile = SmileMeasure.fit(data.landmarks_M[train], data.targets_MA[train, 0])
    found = clip_strangers(clips, smile, dlib_backend())
    found += val_strangers(load(faces, 128), NUM_STRANGERS - len(found))
    return Judge(data, meter, found)


def smile_and_identity(judge: Judge, edited: Sequence[Edited]) -> dict[str, Any]:
    """Rise of the smile and embedding distance for every stranger, and how many pass."""
    before, source = judge.meter.with_embeddings(judge.originals())
    after, output = judge.meter.with_embeddings(judge.crops([e.picture for e in edited]))
    rise = after["smile"] - before["smile"]
    distance = np.linalg.norm(output - source, axis=1)
    return {
        "smile_up": int((rise > CLEAR_SMILE).sum()),
        "smile_rise_median": round(float(np.median(rise)), 3),
        "same_person": int((distance < SAME_PERSON).sum()),
        "distance_median": round(float(np.median(distance)), 3),
        "distance_max": round(float(distance.max()), 3),
        "rise": [round(float(v), 2) for v in rise],
        "distance": [round(float(v), 3) for v in distance],
    }


def effects(judge: Judge, pack: Pack) -> dict[str, dict[str, float]]:
    """``"smile+1"`` -> mean change of every attribute, in standard deviations."""
    before = judge.meter(judge.originals())
    table = {}
    for name in EDITS:
        for strength in (1.0, -1.0):
            pictures = [e.picture for e in edit(judge.strangers, pack, {name: strength})]
            after = judge.meter(judge.crops(pictures))
            table[f"{name}{strength:+.0f}"] = {
                key: round(float((after[key] - before[key]).mean()), 3) for key in EDITS
            }
    return table


def validation_effects(
    judge: Judge, pack: Pack, large: FaceArrays, *, count: int = VALIDATION_FACES
) -> dict[str, dict[str, float]]:
    """``"smile+1"`` -> shares of validation faces: attribute moved the right way, person kept.

    ``moved`` is the mean change in standard deviations; pictures are composed with detail transfer.
    """
    indices = np.random.default_rng(1).choice(large.val_indices, count, replace=False)
    faces = ComposedFaces(pack.inverter(), judge.data, large, indices)
    directions, latents = pack.directions(), faces.inversion.latents_NLD
    before, source = judge.meter.with_embeddings(faces())
    table = {}
    for name in EDITS:
        for strength in (1.0, -1.0):
            strengths = {name: torch.full([count], strength)}
            pictures = faces.edited(
                directions.apply(latents, strengths), directions.outline_shift(strengths)
            )
            after, output = judge.meter.with_embeddings(pictures)
            change = (after[name] - before[name]) * strength
            distance = np.linalg.norm(output - source, axis=1)
            table[f"{name}{strength:+.0f}"] = {
                "moved": round(float(change.mean()), 3),
                "right_way": round(float((change > 0).mean()), 3),
                "same_person": round(float((distance < SAME_PERSON).mean()), 3),
                "distance_median": round(float(np.median(distance)), 3),
            }
    return table


def sheet(
    judge: Judge, columns: Sequence[Sequence[np.ndarray]], path: Path, *, closer: int | None
) -> None:
    """Rows of strangers: a tile a column, then mouth and jaw border of column ``closer`` at 2x."""
    rows = []
    for index, stranger in enumerate(judge.strangers):
        crop = stranger.track.crop(0)
        large = [extract_crop(column[index], crop, 2 * TILE_PX) for column in columns]
        half = (TILE_PX, TILE_PX)
        tiles = [cv2.resize(image, half, interpolation=cv2.INTER_AREA) for image in large]
        if closer is not None:
            to_crop = crop.frame_to_crop(2 * TILE_PX)
            points = transform_points(stranger.track.landmarks(0), to_crop)
            for centre in (points[48:60].mean(0), points[[3, 4]].mean(0)):
                tiles.append(_window(large[closer], centre))
        rows.append(np.concatenate(tiles, axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])


def _window(image: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """``[TILE_PX, TILE_PX, 3]`` around a point, moved inside the picture."""
    x, y = np.clip(np.rint(centre - TILE_PX / 2), 0, image.shape[0] - TILE_PX).astype(int)
    return image[y : y + TILE_PX, x : x + TILE_PX]


def evaluate(
    pack: Pack, clips: Path, faces: Path, out: Path, *, quick: bool = False
) -> dict[str, Any]:
    """Measure, write ``report.json`` and the sheets into ``out``; returns the report."""
    judge = make_judge(pack, clips, faces)
    strength = {"smile": SMILE_STRENGTH}
    modes = (RenderMode.TRANSFER, RenderMode.PASTE)
    detailed, plain = (edit(judge.strangers, pack, strength, mode=mode) for mode in modes)
    inverted = edit(judge.strangers, pack, {}, mode=RenderMode.INVERT)
    report: dict[str, Any] = {
        "detail": smile_and_identity(judge, detailed),
        "no_detail": smile_and_identity(judge, plain),
        "strangers": [s.name for s in judge.strangers],
    }
    groups = [[s.frame.image for s in judge.strangers]]
    groups += [[e.picture for e in group] for group in (inverted, detailed, plain)]
    sheet(judge, groups, out / "smile.png", closer=2)
    if not quick:
        report["methods"] = method_rows(judge, pack)
        report["distribution"] = distribution(pack, judge.data)
        report["samples"] = people_from_z(pack, judge.data)
        report["effects"] = effects(judge, pack)
        report["kept_edits"] = kept_edits(
            judge.meter,
            pack,
            judge.data,
            np.random.default_rng(1).choice(
                judge.data.val_indices, VALIDATION_FACES, replace=False
            ),
            inverters=trained_inverters(pack),
        )
        report["validation"] = validation_effects(judge, pack, load(faces, 128))
        for name in EDITS:
            sides = [edit(judge.strangers[:10], pack, {name: s}) for s in (-1.5, 1.5)]
            few = Judge(judge.data, judge.meter, judge.strangers[:10])
            columns = [[s.frame.image for s in few.strangers]]
            columns += [[e.picture for e in side] for side in sides]
            sheet(few, columns, out / f"{name}.png", closer=None)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def method_rows(judge: Judge, pack: Pack) -> dict[str, dict[str, float]]:
    """Reconstruction of validation faces by every method that the pack has weights for."""
    indices = judge.data.val_indices[::RECONSTRUCTION_EVERY]
    return {
        name: reconstruction_row(inverter, pack.generator, judge.data, indices)
        for name, inverter in trained_inverters(pack).items()
        if name != "editor"  # another rule of editing: the same without an edit
    }


def distribution(pack: Pack, data: FaceArrays) -> dict[str, Any]:
    """FID and KID of G(w), G(w, F) and samples against validation faces, and on what features."""
    if reason := efficientnet.absent():
        return {"absent": reason}
    inverter, indices = pack.inverter(), data.val_indices[::DISTRIBUTION_EVERY]
    assert isinstance(inverter, FeatureStyleInverter)
    random = torch.Generator().manual_seed(0)
    rows_of: dict[str, list[Tensor]] = {"faces": [], "G(w)": [], "G(w, F)": [], "samples": []}
    with torch.inference_mode():
        for start in range(0, len(indices), 16):
            images = make_batch(data, indices[start : start + 16]).images
            inversion = inverter.encode(images)
            z = torch.randn(len(images), pack.generator.z_dim, generator=random)
            drawn = pack.generator.broadcast(pack.generator.mapping(z))
            made = {
                "faces": images,
                "G(w)": inverter.synthesis(inversion.latents_NLD),
                "G(w, F)": inverter.render(inversion, inversion.unedited),
                "samples": inverter.synthesis(drawn),
            }
            for name, batch in made.items():
                rows_of[name].append(crowd_features([batch]))
    faces, *others = ((name, torch.cat(rows)) for name, rows in rows_of.items())
    figures = {
        name: {
            "fid": round(frechet_distance(rows, faces[1]), 3),
            "kid": round(kernel_distance(rows, faces[1]), 5),
        }
        for name, rows in others
    }
    return {"features": efficientnet.NAME, "pictures": len(indices), **figures}


def people_from_z(pack: Pack, data: FaceArrays) -> dict[str, Any]:
    """FID and KID of 5,000 samples against the training faces (training.samples)."""
    if reason := efficientnet.absent():
        return {"absent": reason}
    return {"features": efficientnet.NAME, **samples_row(pack.generator, train_features(data))}


def main() -> None:
    """Parse arguments, measure, print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pack", default="faces-128")
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--faces", type=Path, default=Path("data/faces"))
    parser.add_argument("--out", type=Path, default=Path("out/evaluate"))
    parser.add_argument("--quick", action="store_true", help="smile and identity alone")
    args = parser.parse_args()
    pack = load_pack(args.pack)
    report = evaluate(pack, args.clips, args.faces, args.out, quick=args.quick)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
