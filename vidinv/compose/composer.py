"""The stage that puts edited faces back into frames, one ``Composer`` per face track.

A track has no gaps and ends with its shot, so a composer never has to forget.

Flow and confidence are smoothed over the last frames of the track. They live in crop coordinates,
which follow the face, so smoothing them does not lag behind its movement; and the residual is
computed after the flow is smoothed, so what a late flow misses is added back rather than lost.
The window is finite: a segment that starts ``Composer.halo_frames`` early gives the same bits as
the whole shot.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from vidinv.compose.change import (
    Change,
    activity_gate,
    explain,
    generated_change,
    transferred_change,
)
from vidinv.compose.colour import match_colourlessness
from vidinv.compose.flow import Float32, FlowEstimator
from vidinv.compose.masks import fade_inwards
from vidinv.compose.paste import apply_change
from vidinv.compose.rigid import keep_on_face, rigid_parts
from vidinv.types import Crop, FloatArray, Image

# Newest first: 0.7 frames of mean delay. Measured on portrait_glasses with a jittering made-up
# smile: flicker above the source's goes from 0.65 to 0.39 levels, with STEADY_LEVELS
# below (flow and confidence alone: 0.49).
SMOOTHING_WEIGHTS = (0.5, 0.3, 0.2)

# Differences of the residual up to about this many levels count as the generator's noise.
STEADY_LEVELS = 6.0


class Composer:
    """Pastes the edited face of one track into its frames, in order.

    Args:
        detail: carry the change to the full-resolution source (True), or paste the generator's
            own picture (False).
        crop_scale: of the alignment that the crops are of (``Alignment.crop_scale``).
    """

    # Flow is smoothed, then confidence, which depends on the smoothed flow.
    halo_frames = 2 * (len(SMOOTHING_WEIGHTS) - 1)

    def __init__(self, *, detail: bool = True, crop_scale: float = 1.0) -> None:
        self.detail, self.crop_scale = detail, crop_scale
        self._estimator = FlowEstimator()
        self._flows: deque[Float32] = deque(maxlen=len(SMOOTHING_WEIGHTS))
        self._confidences: deque[Float32] = deque(maxlen=len(SMOOTHING_WEIGHTS))
        self._residuals: deque[Float32] = deque(maxlen=len(SMOOTHING_WEIGHTS))
        self._rigid: deque[Float32] = deque(maxlen=len(SMOOTHING_WEIGHTS))

    def compose(
        self,
        image: Image,
        *,
        crop: Crop,
        source_crop: npt.NDArray[np.uint8] | Float32,
        rendered: Float32,
        edited: Float32,
        mask: npt.NDArray[np.floating],
        landmarks: FloatArray | None = None,
        opacity: float = 1.0,
    ) -> Image:
        """The frame with the face edited.

        Args:
            image: RGB ``[H, W, 3]`` uint8 or uint16; not modified.
            crop: the aligned square of the face in ``image``.
            source_crop: the source under ``crop`` at R, RGB ``[R, R, 3]``, 0..255.
            rendered: the generator's picture before the edit, ``[R, R, 3]`` float32, 0..255.
            edited: the generator's picture after the edit, the same.
            mask: ``[R, R]`` 0..1 in crop coordinates, where change is allowed.
            landmarks: ``[68, 2]`` in crop pixels; with them glasses and background are found,
                which an edit does not bend.
            opacity: how much of the change is painted, 0..1.

        Returns:
            A new picture, bit-exact outside the mask; ``image`` itself where nothing changes.
        """
        change = self.observe(
            source_crop=source_crop,
            rendered=rendered,
            edited=edited,
            mask=mask,
            landmarks=landmarks,
        )
        return apply_change(image, crop=crop, change=change.scaled(opacity))

    def observe(
        self,
        *,
        source_crop: npt.NDArray[np.uint8] | Float32,
        rendered: Float32,
        edited: Float32,
        mask: npt.NDArray[np.floating],
        landmarks: FloatArray | None = None,
    ) -> Change:
        """Take in one frame without painting it (the halo of a segment); arguments as ``compose``.

        Returns:
            The change of this frame in crop coordinates.
        """
        source = np.ascontiguousarray(source_crop, np.float32)
        rendered = np.ascontiguousarray(rendered, np.float32)
        edited = np.ascontiguousarray(edited, np.float32)
        _check_sizes(source, rendered=rendered, edited=edited, mask=mask)
        rendered, edited = match_colourlessness(source, rendered, edited)
        face_px = len(source) / self.crop_scale
        soft = fade_inwards(mask, face_px=face_px)
        if not self.detail:
            return generated_change(source, edited, soft, face_px=face_px)
        movable = 1.0 - self._held(source, rendered, landmarks, face_px)
        return self._transfer(source, rendered, edited, mask, soft, movable, face_px)

    def _held(
        self, source: Float32, rendered: Float32, landmarks: FloatArray | None, face_px: float
    ) -> Float32 | np.float32:
        """Where the source stays as it is, 0..1."""
        if landmarks is None:
            return np.float32(0)
        self._rigid.appendleft(rigid_parts(source, rendered, landmarks, face_px=face_px))
        return _smoothed(self._rigid)

    def _transfer(
        self,
        source: Float32,
        rendered: Float32,
        edited: Float32,
        mask: npt.NDArray[np.floating],
        soft: Float32,
        movable: Float32 | np.float32,
        face_px: float,
    ) -> Change:
        weight = activity_gate(rendered, edited, face_px=face_px) * soft * movable
        self._flows.appendleft(self._estimator.estimate(rendered, edited, face_px=face_px))
        # This frame's weight, not a smoothed one: a frame without an edit is the source at once.
        flow = _smoothed(self._flows) * weight[..., None]
        flow = keep_on_face(flow, np.asarray(mask, np.float32))
        confidence, residual = explain(rendered, edited, flow=flow, face_px=face_px)
        self._confidences.appendleft(confidence)
        self._residuals.appendleft(residual)
        return transferred_change(
            source,
            rendered,
            edited,
            flow=flow,
            confidence=_smoothed(self._confidences),
            residual=_steadied(residual, _smoothed(self._residuals)),
            mask_RR=soft,
            weight_RR=weight,
            face_px=face_px,
        )


def _check_sizes(source: Float32, **others: npt.NDArray[np.generic]) -> None:
    for name, other in others.items():
        if other.shape[:2] != source.shape[:2]:
            raise ValueError(f"{name} is {other.shape}, but source_crop is {source.shape}")


def _smoothed(history: deque[Float32]) -> Float32:
    """Weighted mean of the fields, newest first; a short history is renormalised."""
    weights = np.array(SMOOTHING_WEIGHTS[: len(history)], np.float32)
    weights /= weights.sum()
    return np.asarray(sum(w * field for w, field in zip(weights, history, strict=True)), np.float32)


def _steadied(residual: Float32, smoothed: Float32) -> Float32:
    """The smoothed residual where it is close to this frame's, this frame's where it is not.

    Removes the generator's small blotches from frame to frame without a late flow leaving a trail.
    """
    lag = smoothed - residual
    return np.asarray(residual + lag * np.exp(-((lag / STEADY_LEVELS) ** 2)), np.float32)
