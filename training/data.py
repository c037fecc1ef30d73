"""Aligned training faces as memory-mapped arrays, and their attribute targets.

    python -m training.data FACES data/faces              # once, about 20 s
    python -m training.data video CLIPS data/windows      # of video: training.video_windows

The first writes, in the order of labels.csv: ``faces128.npy`` and ``faces64.npy`` (uint8
``[M, 3, R, R]``), ``weights.npy`` (uint8 ``[M, 32, 32]``: how much a pixel counts in
reconstruction, in 1/64), ``targets.npy`` (float32 ``[M, A]``, standardised, NaN where unknown),
``landmarks.npy`` (float32 ``[M, 68, 2]`` pixels of the 128 px crop), ``split.npy`` (1 = train) and
``meta.json``.
Reading them needs numpy and Pillow alone, so it runs on bare GPU machines.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vidinv.errors import UsageError
from vidinv.metrics.attributes import geometry

# Order of the attribute targets; signs as in docs/REFERENCES.md, "Directions and units".
ATTRIBUTES = ("smile", "age", "gender", "yaw", "pitch", "mouth_open", "eyes_open")
AGE_MIDPOINTS = {
    "20-29": 25,
    "30-39": 35,
    "40-49": 45,
    "50-59": 55,
    "60-69": 65,
    "more than 70": 75,
}
WEIGHT_UNIT = 64
BACKGROUND, FACE, PARTS = 64, 96, 176  # 1, 1.5 and 2.75: mouth and eyes carry what edits need


@dataclass(frozen=True)
class FaceArrays:
    """Training data opened by ``load``; images are memory-mapped, never copied whole.

    Attributes:
        window: rows in turn that are frames of one track, and drawn together; 1 of photographs.
    """

    images_M3RR: np.ndarray
    weights_M: np.ndarray
    targets_MA: np.ndarray
    landmarks_M: np.ndarray
    is_train_M: np.ndarray
    window: int = 1

    @property
    def train_indices(self) -> np.ndarray:
        return np.flatnonzero(self.is_train_M)

    @property
    def val_indices(self) -> np.ndarray:
        return np.flatnonzero(~self.is_train_M)


def load(folder: Path, resolution: int) -> FaceArrays:
    """Open prepared arrays at a side in pixels; UsageError says how to make them."""
    path = folder / f"faces{resolution}.npy"
    if not path.exists():
        if there := sorted(other.name for other in folder.glob("faces*.npy")):
            raise UsageError(
                f"{folder} has no pictures of {resolution} px, only {', '.join(there)}: windows of "
                f"video are cut at that size with --resolution {resolution}"
            )
        raise UsageError(f"{path} is missing; make it with: python -m training.data FACES {folder}")
    meta_file = folder / "meta.json"
    meta = json.loads(meta_file.read_text()) if meta_file.is_file() else {}
    return FaceArrays(
        images_M3RR=np.load(path, mmap_mode="r"),
        weights_M=np.load(folder / "weights.npy", mmap_mode="r"),
        targets_MA=np.load(folder / "targets.npy"),
        landmarks_M=np.load(folder / "landmarks.npy"),
        is_train_M=np.load(folder / "split.npy").astype(bool),
        window=meta.get("window", 1),
    )


def attribute_targets(rows: list[dict[str, str]], landmarks: np.ndarray) -> np.ndarray:
    """``[M, A]`` float32 in the order of ATTRIBUTES, each standardised, NaN where unknown."""
    columns = {
        "smile": np.array([float(row["smile_score"]) for row in rows]),
        "age": np.array([AGE_MIDPOINTS.get(row["age"], np.nan) for row in rows], np.float64),
        "gender": np.array(
            [{"Male": 1.0, "Female": -1.0}.get(row["gender"], np.nan) for row in rows]
        ),
    }
    return standardised_targets(columns, landmarks)


def standardised_targets(labels: Mapping[str, np.ndarray], landmarks: np.ndarray) -> np.ndarray:
    """``[M, A]`` of the attributes that are labelled, and of those that landmarks show."""
    columns = {**labels, **geometry(landmarks)}
    table = np.full((len(landmarks), len(ATTRIBUTES)), np.nan)
    for index, name in enumerate(ATTRIBUTES):
        if name in columns:
            values = columns[name]
            table[:, index] = (values - np.nanmean(values)) / np.nanstd(values)
    return np.clip(table, -3.5, 3.5).astype(np.float32)


def weight_map(landmarks_682: np.ndarray) -> np.ndarray:
    """``[32, 32]`` uint8 in 1/64: background 1, face 1.5, eyes and mouth 2.75, blurred."""
    points = landmarks_682 / 4.0
    image = Image.new("L", (32, 32), BACKGROUND)
    draw = ImageDraw.Draw(image)
    brows = points[17:27][::-1] - np.array([0, 3])
    draw.polygon([tuple(p) for p in np.concatenate([points[0:17], brows])], fill=FACE)
    for part in (slice(36, 42), slice(42, 48), slice(48, 68)):
        x0, y0 = points[part].min(0) - 1.5
        x1, y1 = points[part].max(0) + 1.5
        draw.ellipse([x0, y0, x1, y1], fill=PARTS)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(1.0)))


def prepare(source: Path, folder: Path, *, report: Callable[[str], None] = lambda _: None) -> None:
    """Unpack ``source`` (its layout: docs/TRAINING.md) into ``folder``; see the file's head."""
    folder.mkdir(parents=True, exist_ok=True)
    with (source / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    landmarks = np.load(source / "landmarks68.npz")["landmarks"].astype(np.float32)
    big = create_images(folder / "faces128.npy", (len(rows), 3, 128, 128))
    small = create_images(folder / "faces64.npy", (len(rows), 3, 64, 64))
    with zipfile.ZipFile(source / "faces128.zip") as archive:
        for index, row in enumerate(rows):
            with Image.open(io.BytesIO(archive.read(row["file"]))) as image:
                face = image.convert("RGB")
            big[index] = np.asarray(face).transpose(2, 0, 1)
            reduced = face.resize((64, 64), Image.Resampling.BOX)
            small[index] = np.asarray(reduced).transpose(2, 0, 1)
            if index % 2000 == 0:
                report(f"{index} of {len(rows)} faces")
    big.flush()
    small.flush()
    np.save(folder / "weights.npy", np.stack([weight_map(points) for points in landmarks]))
    np.save(folder / "targets.npy", attribute_targets(rows, landmarks))
    np.save(folder / "landmarks.npy", landmarks)
    np.save(folder / "split.npy", np.array([row["split"] == "train" for row in rows]))
    (folder / "meta.json").write_text(json.dumps({"attributes": ATTRIBUTES, "count": len(rows)}))


def create_images(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new file of pictures, to be filled in place."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def main(arguments: list[str]) -> None:
    """``FACES OUT``, or ``video CLIPS OUT`` with the options of training.video_windows."""
    if arguments and arguments[0] == "video":
        from training.video_windows import main as cut_video  # dlib, decord: not for reading

        cut_video(arguments[1:])
        return
    source, folder = map(Path, arguments)
    prepare(source, folder, report=print)


if __name__ == "__main__":
    main(sys.argv[1:])
