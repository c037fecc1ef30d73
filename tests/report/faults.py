"""An edited clip with deliberate faults: another face in some frames, a jumping one in others."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from tests.video.clips import images_of, write_clip
from vidinv.faces import analyse, dlib_backend, extract_crop, face_mask, named_alignment
from vidinv.types import FaceTrack, Image
from vidinv.video import ShotDetector, open_reader

_FACE_PX = 256


def write_faulty_clip(
    path: Path, edited: Path, stranger: Path, *, swapped: Collection[int], flickers: Collection[int]
) -> Path:
    """``edited`` with the face of ``stranger`` in some frames, and a jumping one in others.

    Args:
        stranger: a clip of the same size with its face at the same place at the same time.
        swapped, flickers: frame numbers.
    """
    pictures = []
    for number, (own, other) in enumerate(zip(images_of(edited), images_of(stranger), strict=True)):
        if number in swapped:
            pictures.append(paste_face(own, other))
        elif number in flickers:
            pictures.append(paste_face(own, jumping(own, number)))
        else:
            pictures.append(own)
    return write_clip(path, pictures)


def jumping(image: Image, number: int) -> Image:
    """Brighter by a sixth and two pixels aside."""
    shift = np.array([[1, 0, 2 if number % 2 else -2], [0, 1, 0]], np.float32)
    moved = cv2.warpAffine(image, shift, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return np.clip(moved.astype(np.float32) * 1.16, 0, 255).astype(np.uint8)


def paste_face(image: Image, other: Image) -> Image:
    """The middle of ``other``, where the made clips have their face, over ``image``."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.float32)
    cv2.ellipse(
        mask,
        (width // 2, height // 2),
        (round(0.3 * width), round(0.38 * height)),
        0,
        0,
        360,
        1,
        -1,
    )
    mask = cv2.GaussianBlur(mask, (0, 0), width / 64)[..., None]
    return (image * (1 - mask) + other * mask).round().astype(np.uint8)


def write_faulty_real_clip(
    path: Path,
    edited: Path,
    stranger: Path,
    *,
    swapped: Collection[int],
    flickers: Collection[int],
) -> Path:
    """The same for real clips: the aligned face of ``stranger`` is laid over that of ``edited``."""
    own_track, other_track = (largest_track(clip) for clip in (edited, stranger))
    others = images_of(stranger)
    pictures = []
    for number, image in enumerate(images_of(edited)):
        if number in swapped:
            there = other_track.first + number % other_track.num_frames
            face = extract_crop(others[there], other_track.crop(there), _FACE_PX)
            image = lay_over(image, own_track, number, face)
        elif number in flickers:
            face = extract_crop(image, own_track.crop(number), _FACE_PX)
            image = lay_over(image, own_track, number, jumping(face, number))
        pictures.append(image)
    return write_clip(path, pictures)


def largest_track(clip: Path) -> FaceTrack:
    """Of the faces of a clip, the one that is seen for the longest time."""
    with open_reader(clip) as reader:
        found = analyse(
            reader,
            new_shot=ShotDetector().update,
            alignment=named_alignment("tight"),
            backend=dlib_backend(),
        )
    return max(found.tracks, key=lambda track: track.num_frames)


def lay_over(image: Image, track: FaceTrack, number: int, face: Image) -> Image:
    """``face``, an aligned crop, in the place of the track's face in frame ``number``."""
    crop = track.crop(number)
    mask = face_mask(track.landmarks(number), crop=crop, size_px=_FACE_PX)
    size, matrix = image.shape[1::-1], crop.crop_to_frame(_FACE_PX)
    there = cv2.warpAffine(face, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(mask.astype(np.float32), matrix, size)[..., None]
    return (image * (1 - share) + there * share).round().astype(np.uint8)
