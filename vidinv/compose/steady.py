"""An edit that does not flicker: the change of each frame averaged along the motion of the face.

A generator draws teeth, folds and lids a little differently in every frame, and landmarks jitter.
What an edit changes is therefore averaged over the frames before and after, carried along the
optical flow of the *source*, which knows where each part of the face went:

    forward[t] = x[t] + BETA trust[t] warp(forward[t - 1], to_before[t])

and the same backward from the frames after; their sum, without counting x[t] twice, over the sum
of the weights is an average whose weights fall by BETA a frame in both directions: no lag.
``trust`` is low where the source carried along its motion does not look like the source of this
frame (a mouth that opens, a hand): there each frame has its own change.

x are the flow, the loss and the *difference* that the change makes to the source (not ``add``,
which holds back what ``loss`` takes away). The average reaches a stated number of frames beyond
those asked for: a segment that is computed from there on has the same bits as the whole shot.

What is in front of the face, where somebody looked, is averaged in the same way, and the change
keeps off it: an occluder that is missed or seen in one frame alone does not flicker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vidinv.compose.change import Change
from vidinv.compose.flow import Float32, MotionEstimator, warp

BETA = 0.75  # 0.8 costs a tenth of a smile (docs/LOG.md)
# Levels of luma between a source and its neighbour carried along the motion, above which the
# neighbour says nothing of this frame.
TRUST_LEVELS = 8.0
TRUST_SIGMA = 1 / 64  # sides of the tight crop

_Fields = tuple[Float32, ...]  # at most four channels each


class Link:
    """From a frame to its neighbour.

    Args:
        flow_RR2: ``[R, R, 2]`` float32, where each pixel of the frame is in the neighbour.
        now, other: luma ``[R, R]`` float32 of the frame and of the neighbour.
        face_px: side of the tight crop in pixels of the pictures.

    Attributes:
        trust_RR: ``[R, R]`` float32, 0..1, how far the neighbour speaks for the frame there.
    """

    def __init__(self, flow_RR2: Float32, now: Float32, other: Float32, face_px: float) -> None:
        height, width = flow_RR2.shape[:2]
        # Two maps: for one map of two channels OpenCV 5.0's bilinear remap gives other pixels.
        self._x = flow_RR2[..., 0] + np.arange(width, dtype=np.float32)
        self._y = flow_RR2[..., 1] + np.arange(height, dtype=np.float32)[:, None]
        apart = cv2.absdiff(now, self.carry(other))
        apart = cv2.GaussianBlur(apart, (0, 0), TRUST_SIGMA * face_px)
        self.trust_RR = np.asarray(np.exp(-((apart / TRUST_LEVELS) ** 2)), np.float32)

    def carry(self, field: Float32) -> Float32:
        """``[R, R, ...]`` of the neighbour, where the frame has it; at most four channels."""
        moved = cv2.remap(
            field, self._x, self._y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(moved, np.float32)


@dataclass(frozen=True, slots=True)
class FrameChange:
    """The change of one frame, its surroundings, and the way to the frame before.

    Attributes:
        source_RR3: RGB ``[R, R, 3]`` float32, 0..255, under the change.
        mask_RR: ``[R, R]`` float32, 0..1: where change is allowed, and how much.
        fields: what is averaged: flow, loss and weight; difference and mask; and, where somebody
            looked for it, what is in front of the face, and 1.
        to_before, from_before: None for the first frame.
    """

    change: Change
    source_RR3: Float32
    mask_RR: Float32
    fields: _Fields
    to_before: Link | None = None
    from_before: Link | None = None


class Linker:
    """Finds the way from each frame of a track to the one before it.

    Args:
        face_px: side of the tight crop in pixels of the pictures.
    """

    def __init__(self, face_px: float) -> None:
        self._face_px = face_px
        self._estimator = MotionEstimator()
        self._before: Float32 | None = None

    def step(
        self,
        change: Change,
        *,
        source: Float32,
        mask_RR: Float32,
        occluded_RR: Float32 | None = None,
    ) -> FrameChange:
        """The next frame of the track; arguments as the attributes of ``FrameChange``.

        Args:
            occluded_RR: ``[R, R]`` float32 0..1, in every frame of a track or in none.
        """
        fields = _fields(change, source, mask_RR)
        if occluded_RR is not None:
            counted = cv2.merge([occluded_RR, np.ones_like(occluded_RR)])
            fields = (*fields, np.asarray(counted, np.float32))
        luma, before = cv2.cvtColor(source, cv2.COLOR_RGB2GRAY), self._before
        self._before = now = np.asarray(luma, np.float32)
        if before is None:
            return FrameChange(change, source, mask_RR, fields)
        flow = self._estimator.estimate(now, before, face_px=self._face_px)
        # What is here now came from p + flow(p): to first order the way forth is the way back.
        forth = -warp(flow, -flow)
        return FrameChange(
            change,
            source,
            mask_RR,
            fields,
            Link(flow, now, before, self._face_px),
            Link(forth, before, now, self._face_px),
        )


def steadied(steps: Sequence[FrameChange], wanted: range) -> list[Change]:
    """The changes of ``steps[i]`` for i in ``wanted``, averaged over all of ``steps``.

    Args:
        steps: consecutive frames of one track, in order.
        wanted: which of them; what lies around them is what the average reaches.
    """
    forward = _carried((i, steps[i], steps[i].to_before if i else None) for i in range(wanted.stop))
    backward = _carried(
        (i, steps[i], steps[i + 1].from_before if i + 1 < len(steps) else None)
        for i in reversed(range(wanted.start, len(steps)))
    )
    return [_average(steps[i], forward[i], backward[i]) for i in wanted]


def _fields(change: Change, source: Float32, mask_RR: Float32) -> _Fields:
    """Flow, loss and weight; difference and mask: ``[R, R, 4]`` each."""
    weight = np.full_like(change.loss_RR, change.acts)
    difference = change.add_RR3 - change.loss_RR[..., None] * warp(source, change.flow_RR2)
    first = cv2.merge([*cv2.split(change.flow_RR2), change.loss_RR, weight])
    second = cv2.merge([*cv2.split(difference), mask_RR * weight])
    return np.asarray(first, np.float32), np.asarray(second, np.float32)


def _carried(frames: Iterable[tuple[int, FrameChange, Link | None]]) -> dict[int, _Fields]:
    """Sums over each frame and those that came before it in this order, by index."""
    sums: dict[int, _Fields] = {}
    total: _Fields | None = None
    for index, step, link in frames:
        if total is None or link is None:
            total = step.fields
        else:
            kept = np.float32(BETA) * link.trust_RR[..., None]
            carried = (link.carry(part) for part in total)
            total = tuple(o + kept * c for o, c in zip(step.fields, carried, strict=True))
        sums[index] = total
    return sums


def _average(step: FrameChange, forward: _Fields, backward: _Fields) -> Change:
    if not step.change.acts:
        return step.change
    first, second, *occluded = (
        f + b - o for f, b, o in zip(forward, backward, step.fields, strict=True)
    )
    scale = 1.0 / first[..., 3]  # a frame's own weight is 1
    # Never more than the mask of this frame allows, wherever others had theirs.
    mask = second[..., 3] * scale
    scale *= np.minimum(step.mask_RR / np.maximum(mask, 1e-4), 1.0)
    first, second = first * scale[..., None], second * scale[..., None]
    flow, loss = np.ascontiguousarray(first[..., :2]), np.ascontiguousarray(first[..., 2])
    add = second[..., :3] + loss[..., None] * warp(step.source_RR3, flow)
    change = Change(flow, loss, np.asarray(add, np.float32))
    for field in occluded:
        change = change.within(np.asarray(1.0 - field[..., 0] / field[..., 1], np.float32))
    return change
