"""What does not move with skin: glasses, and what is before or behind the face.

A generator of faces draws what faces have, and gives glasses to few. What its edit does to the skin
must not bend them, nor a shelf behind a turned head that the mask of the face happens to cover.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vidinv.compose.flow import Float32, warp
from vidinv.compose.masks import smoothstep
from vidinv.types import FloatArray

# Lengths are in sides of the tight crop, contrast in levels of luma per 128th of that side.
DETAIL_SIGMA = 0.8 / 128
# Edges of the inversion this near explain one of the source: it shows features a little aside.
REACH = 2.5 / 128
# What is left over of an edge of the source. Bare faces of four clips have more than the first
# number on at most 0.7 % of the mask, shelf and collar behind a turned head 15 and more.
EDGE_LEVELS = (8.0, 14.0)
SPREAD = 1.5 / 128  # an edge is held with what is beside it, or it would be drawn thinner
# The weakest place of a line across the bridge of the nose, from one side to the other. Of 1,000
# training faces a fifth has more than the first number; above the second nearly all wear glasses
# (docs/LOG.md).
BRIDGE_LEVELS = (5.0, 7.5)
# In widths of an eye. Rims lie up to this far from the corners of an eye; lids move inside them.
RIM_REACH, LID_REACH, RIM_SOFTNESS = 1.2, 0.3, 0.12
FEATURE_REACH = 0.25
# Of the feathered mask at the place that is sampled; its outline, the jaw, is at 0.5.
ON_FACE = (0.5, 0.7)
# An outline that moves less than this fades with the mask: a smile's, 3 px at strength 1.
OUTLINE_TOLERANCE = 3 / 128
# Around what a turning head uncovers: its dark edge is kept off too.
UNCOVERED_REACH, UNCOVERED_SIGMA = 13 / 128, 5 / 128
STEPS = 8  # into which a way off the face is cut, a power of two: all of it adds up to 1

EYES = (slice(36, 42), slice(42, 48))
# Brows, eyes, nostrils, mouth: they move as they like, and an inversion that misses an open mouth
# says nothing of glasses.
FEATURES = (slice(17, 22), slice(22, 27), *EYES, slice(31, 36), slice(48, 68))
_INNER_CORNERS = (39, 42)
_NOSE_TOP = 27
_BRIDGE_WIDTH = 0.4  # of the distance between the inner corners: between the pads of the nose
_BRIDGE_HEIGHT = (-0.35, 0.55)  # from the top of the nose down, in widths of an eye

Mask = npt.NDArray[np.uint8]


def rigid_parts(
    source: Float32, rendered: Float32, landmarks: FloatArray, *, face_px: float
) -> Float32:
    """``[R, R]`` 0..1: 1 where the source keeps its place, 0 where it moves with the skin.

    Args:
        source, rendered: RGB ``[R, R, 3]`` float32, 0..255.
        landmarks: ``[68, 2]`` in pixels of the pictures.
        face_px: side of the tight crop in pixels of the pictures.
    """
    features = _near(landmarks, FEATURES, reach=FEATURE_REACH, size_px=len(source))
    held = _foreign_edges(source, rendered, features, face_px)
    glasses = glasses_evidence(source, landmarks, face_px=face_px)
    return np.maximum(held, glasses * _rims(landmarks, len(source))) if glasses else held


def glasses_evidence(source: Float32, landmarks: FloatArray, *, face_px: float) -> float:
    """0..1: whether an unbroken line crosses the bridge of the nose, as that of glasses does."""
    bridge = _bridge(landmarks, len(source))
    lines = _lines(_luma(source, face_px), face_px)[bridge]
    if not lines.size:
        return 0.0
    weakest = np.full(1, lines.max(axis=0).min(), np.float32)
    return float(smoothstep(weakest, *BRIDGE_LEVELS)[0])


def keep_on_face(flow: Float32, mask_RR: Float32) -> Float32:
    """Flow shortened where it would sample what is not face; itself where it never does.

    Args:
        flow: ``[R, R, 2]``, where to sample, in pixels from here.
        mask_RR: ``[R, R]`` float32 0..1 feathered mask of the face.
    """
    end = _on_face(mask_RR, flow)
    if not ((end < 1.0) & flow.any(axis=2)).any():
        return flow
    # How much of the way there lies on the face, so that neighbours are shortened alike.
    reached, kept = np.ones_like(mask_RR), np.zeros_like(mask_RR)
    for step in range(1, STEPS + 1):
        there = end if step == STEPS else _on_face(mask_RR, flow * np.float32(step / STEPS))
        reached = np.minimum(reached, there)
        kept += reached / np.float32(STEPS)
    return np.asarray(flow * kept[..., None], np.float32)


def still_face(
    flow: Float32, mask_RR: Float32, edited_mask_RR: Float32 | None, *, face_px: float
) -> Float32:
    """``[R, R]`` 0..1: 0 where the edited picture shows what was beside the face before.

    A head that turns uncovers background that the frame does not have: what the generator paints
    there would lie as a dark stripe on the cheek. There the face keeps its outline. Found where
    the flow comes from beside the face, and where the outline of the edited face is said to be.

    Args:
        flow: ``[R, R, 2]``, from the edited picture back to the one before, in pixels.
        mask_RR: ``[R, R]`` float32 0..1 feathered mask of the face.
        edited_mask_RR: the same of the edited face; None where it is not known.
        face_px: side of the tight crop in pixels of the pictures.
    """
    near = _disc(OUTLINE_TOLERANCE * face_px)
    stays = _on_face(_widened(mask_RR, near), flow)
    if edited_mask_RR is not None:
        stays = np.minimum(stays, smoothstep(_widened(edited_mask_RR, near), *ON_FACE))
    uncovered = np.maximum(smoothstep(mask_RR, *ON_FACE) - stays, np.float32(0))
    if not np.any(uncovered):
        return np.ones_like(mask_RR)
    uncovered = _widened(uncovered, _disc(UNCOVERED_REACH * face_px))
    soft = cv2.GaussianBlur(uncovered, (0, 0), UNCOVERED_SIGMA * face_px)
    return np.asarray(1.0 - soft, np.float32)


def _widened(field_RR: Float32, by: Mask) -> Float32:
    return np.asarray(cv2.dilate(field_RR, by), np.float32)


def _on_face(mask_RR: Float32, flow: Float32) -> Float32:
    """``[R, R]`` 0..1: whether the place that is sampled is face."""
    return smoothstep(warp(mask_RR, flow), *ON_FACE)


def _foreign_edges(
    source: Float32, rendered: Float32, features_RR: Mask, face_px: float
) -> Float32:
    """``[R, R]`` 0..1: edges that the inversion does not show."""
    here, shown = (_edges(_luma(picture, face_px), face_px) for picture in (source, rendered))
    excess = here - cv2.dilate(shown, _disc(REACH * face_px))
    excess[features_RR != 0] = 0.0
    held = cv2.dilate(smoothstep(excess, *EDGE_LEVELS), _disc(SPREAD * face_px))
    return np.asarray(cv2.GaussianBlur(held, (0, 0), SPREAD * face_px), np.float32)


def _rims(landmarks: FloatArray, size_px: int) -> Float32:
    """``[R, R]`` 0..1: around the eyes, where rims, bridge and temples are; not the lids."""
    outer = _near(landmarks, EYES, reach=RIM_REACH, size_px=size_px)
    lids = _near(landmarks, EYES, reach=LID_REACH, size_px=size_px)
    ring = (outer & ~lids).astype(np.float32)
    sigma = max(0.5, RIM_SOFTNESS * _eye_px(landmarks))
    return np.asarray(cv2.GaussianBlur(ring, (0, 0), sigma), np.float32)


def _near(landmarks: FloatArray, parts: tuple[slice, ...], *, reach: float, size_px: int) -> Mask:
    """``[R, R]`` 0 or 1: the hulls of parts of the face and what is ``reach`` eye widths around."""
    drawn = np.zeros((size_px, size_px), np.uint8)
    for part in parts:
        hull = cv2.convexHull(np.rint(landmarks[part]).astype(np.int32))
        cv2.fillConvexPoly(drawn, np.asarray(hull), 1)
    return np.asarray(cv2.dilate(drawn, _disc(reach * _eye_px(landmarks))), np.uint8)


def _bridge(landmarks: FloatArray, size_px: int) -> tuple[slice, slice]:
    """Rows and columns of the bridge of the nose."""
    left, right = (landmarks[corner] for corner in _INNER_CORNERS)
    middle = (left[0] + right[0]) / 2
    half = _BRIDGE_WIDTH / 2 * float(np.hypot(*(right - left)))
    top, bottom = (landmarks[_NOSE_TOP, 1] + h * _eye_px(landmarks) for h in _BRIDGE_HEIGHT)
    rows, columns = (
        slice(*np.clip([np.floor(a), np.ceil(b) + 1], 0, size_px).astype(int))
        for a, b in ((top, bottom), (middle - half, middle + half))
    )
    return rows, columns


def _eye_px(landmarks: FloatArray) -> float:
    """Mean distance of the corners of an eye."""
    corners = ((36, 39), (42, 45))
    return float(np.mean([np.hypot(*(landmarks[b] - landmarks[a])) for a, b in corners]))


def _luma(image: Float32, face_px: float) -> Float32:
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.GaussianBlur(luma, (0, 0), DETAIL_SIGMA * face_px), np.float32)


def _edges(luma: Float32, face_px: float) -> Float32:
    """``[R, R]`` length of the gradient."""
    # Central differences over 2 px (Sobel with kernel 1 gives their double).
    scale = 0.5 * face_px / 128
    dx, dy = (cv2.Sobel(luma, cv2.CV_32F, *o, ksize=1, scale=scale) for o in ((1, 0), (0, 1)))
    return np.asarray(cv2.magnitude(dx, dy), np.float32)


def _lines(luma: Float32, face_px: float) -> Float32:
    """``[R, R]``: how much more the gradient changes across than along, as at a thin line."""
    scale = 0.25 * (face_px / 128) ** 2
    xx, yy, xy = (
        cv2.Sobel(luma, cv2.CV_32F, *order, ksize=3, scale=scale)
        for order in ((2, 0), (0, 2), (1, 1))
    )
    # Of the Hessian's eigenvalues h + d and h - d, the larger magnitude less the smaller.
    h, d = np.abs(xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    return np.asarray(2 * np.minimum(h, d), np.float32)


def _disc(radius_px: float) -> Mask:
    side = 2 * max(1, round(radius_px)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
