"""Single aligned faces, of pictures and of frames of clips, as methods see them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pipelines.batch.inputs.find import CLIP_SUFFIXES
from pipelines.batch.inputs.local_files import files_below
from vidinv.errors import UsageError
from vidinv.faces import Backend, extract_crop, named_alignment
from vidinv.faces.crops import as_displayed
from vidinv.faces.search import find_faces
from vidinv.geometry import transform_points
from vidinv.packs import Pack
from vidinv.rendering import Float32, as_float_rgb, to_tensor
from vidinv.types import Crop, Image
from vidinv.video import is_image_path, open_reader, read_image

LANDMARK_PX = 128  # side of the crop that landmarks are counted in, as in vidinv.faces.aligned
UNCOUNTED_STEP = 25  # frames between two that are taken, where a file does not say its length


@dataclass(frozen=True)
class StillFace:
    """The largest face of a picture or frame.

    Attributes:
        frame: number of the frame; 0 in a picture.
        aligned: ``[R, R, 3]`` float32 RGB, 0..255.
        landmarks: ``[68, 2]`` in pixels of a 128 px crop.
    """

    path: Path
    frame: int
    aligned: Float32
    landmarks: npt.NDArray[np.float32]


class FaceFinder:
    """Finds and aligns faces for a pack.

    Args:
        aligned: pictures are aligned as the pack's own faces are: taken whole.
    """

    def __init__(self, pack: Pack, backend: Backend, *, aligned: bool = False) -> None:
        self._is_aligned = aligned
        self._alignment, self._resolution = named_alignment(pack.alignment), pack.resolution
        self._backend = backend

    def face(self, path: Path) -> StillFace:
        """The largest face of a picture, or of the first frame of a clip that shows one.

        Raises:
            UsageError: nobody is to be seen.
            DecodeError: it cannot be read.
        """
        for number, image in _pictures(path, None):
            found = self.align(path, number, image)
            if found is not None:
                return found
        raise UsageError(f"no face found in {path}: use a picture that shows one from the front")

    def faces(self, path: Path, *, count: int) -> list[StillFace]:
        """The largest face of a picture, or of ``count`` frames spread over a clip; [] for none."""
        found = (self.align(path, number, image) for number, image in _pictures(path, count))
        return [face for face in found if face is not None]

    def align(self, path: Path, number: int, image: Image) -> StillFace | None:
        """The largest face of a frame, named by file and number; None where nobody is seen."""
        # A face that fills the picture is not found: the detector wants something around it.
        margin = min(image.shape[:2]) // 2 if self._is_aligned else 0
        found = find_faces(_widened(image, margin), self._backend)
        if not found:
            return None
        landmarks = found[0].landmarks - np.float32(margin)
        crop = _whole(image) if self._is_aligned else self._alignment.crop(landmarks)
        points = transform_points(landmarks, crop.frame_to_crop(LANDMARK_PX))
        aligned = as_float_rgb(extract_crop(image, crop, self._resolution))
        return StillFace(path, number, aligned, points.astype(np.float32))


def collect_faces(
    inputs: Sequence[Path],
    finder: FaceFinder,
    *,
    frames_per_clip: int,
    limit: int | None = None,
    without: Callable[[Path], None] = lambda path: None,
) -> list[list[StillFace]]:
    """The faces of files and of all pictures and clips in folders: a list a file.

    Args:
        limit: stop after so many faces.
        without: is given the files in which nobody was found.

    Raises:
        UsageError: an input that is not there, or no face in any.
    """
    groups: list[list[StillFace]] = []
    left = limit
    for path in _files(inputs):
        faces = finder.faces(path, count=frames_per_clip)[:left]
        if faces:
            groups.append(faces)
        else:
            without(path)
        left = None if left is None else left - len(faces)
        if left == 0:
            break
    if not groups:
        raise UsageError(f"no face found in {', '.join(map(str, inputs))}")
    return groups


def _widened(image: Image, margin: int) -> Image:
    """Its border repeated for ``margin`` pixels on all sides."""
    if not margin:
        return image
    wide: Any = cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    return wide


def _whole(image: Image) -> Crop:
    """The square in the middle of a picture, as large as it can be."""
    height, width = image.shape[:2]
    return Crop((width - 1) / 2, (height - 1) / 2, min(height, width) / 2, 0.0)


def as_batch(faces: Sequence[StillFace]) -> torch.Tensor:
    """``[N, 3, R, R]`` in [-1, 1]."""
    return to_tensor(np.stack([face.aligned for face in faces]))


def _files(inputs: Iterable[Path]) -> Iterator[Path]:
    for path in inputs:
        if path.is_dir():
            yield from sorted(p for p in files_below(path) if _is_wanted(p))
        elif path.exists():
            yield path
        else:
            raise UsageError(f"{path}: no such file or folder")


def _is_wanted(path: Path) -> bool:
    return not path.name.startswith(".") and (
        is_image_path(path) or path.suffix.lower() in CLIP_SUFFIXES
    )


def _pictures(path: Path, count: int | None) -> Iterator[tuple[int, Image]]:
    """Number and picture, of square pixels, of a still picture or of the frames of a clip.

    Args:
        count: of frames, evenly spread; None: all.
    """
    if is_image_path(path):
        yield 0, read_image(path)
        return
    with open_reader(path) as reader:
        wanted = None if count is None else _spread(reader.info.num_frames, count)
        for frame in reader:
            if wanted is None or frame.index in wanted:
                yield frame.index, as_displayed(frame.image, reader.info.pixel_aspect)
            if wanted is not None and frame.index >= max(wanted):
                return


def _spread(num_frames: int | None, count: int) -> set[int]:
    """Numbers of frames, the first and the last among them where it says how many there are."""
    if num_frames is None:
        return set(range(0, UNCOUNTED_STEP * count, UNCOUNTED_STEP))
    return set(np.linspace(0, num_frames - 1, count).round().astype(int).tolist())
