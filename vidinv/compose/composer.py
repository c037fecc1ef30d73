"""The stage that puts edited faces back into frames, one ``Composer`` per face track.

It looks at a frame by itself; ``vidinv.compose.steady`` then averages the changes of a track over
time, from the steps that ``observe`` gives.
"""

from __future__ import annotations

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
from vidinv.compose.rigid import keep_on_face, rigid_parts, still_face
from vidinv.compose.steady import FrameChange, Linker
from vidinv.types import Crop, FloatArray, Image


class Composer:
    """Pastes the edited face of one track into its frames, in order.

    Args:
        detail: carry the change to the full-resolution source (True), or paste the generator's
            own picture (False).
        crop_scale: of the alignment that the crops are of (``Alignment.crop_scale``).
    """

    def __init__(self, *, detail: bool = True, crop_scale: float = 1.0) -> None:
        self.detail, self.crop_scale = detail, crop_scale
        self._estimator = FlowEstimator()
        self._linker: Linker | None = None

    def compose(
        self,
        image: Image,
        *,
        crop: Crop,
        source_crop: npt.NDArray[np.uint8] | Float32,
        rendered: Float32,
        edited: Float32,
        mask: npt.NDArray[np.floating],
        edited_mask: npt.NDArray[np.floating] | None = None,
        landmarks: FloatArray | None = None,
        opacity: float = 1.0,
    ) -> Image:
        """A single frame with the face edited.

        Args:
            image: RGB ``[H, W, 3]`` uint8 or uint16; not modified.
            crop: the aligned square of the face in ``image``.
            source_crop: the source under ``crop`` at R, RGB ``[R, R, 3]``, 0..255.
            rendered: the generator's picture before the edit, ``[R, R, 3]`` float32, 0..255.
            edited: the generator's picture after the edit, the same.
            mask: ``[R, R]`` 0..1 in crop coordinates, where change is allowed.
            edited_mask: the same of the edited face, where its outline is known: what lies between
                is background that the edit uncovers, and is not painted.
            landmarks: ``[68, 2]`` in crop pixels; with them glasses and background are found,
                which an edit does not bend.
            opacity: how much of the change is painted, 0..1.

        Returns:
            A new picture, bit-exact outside the mask; ``image`` itself where nothing changes.
        """
        _, change, _ = self._change(source_crop, rendered, edited, mask, edited_mask, landmarks)
        return apply_change(image, crop=crop, change=change.scaled(opacity))

    def observe(
        self,
        *,
        source_crop: npt.NDArray[np.uint8] | Float32,
        rendered: Float32,
        edited: Float32,
        mask: npt.NDArray[np.floating],
        edited_mask: npt.NDArray[np.floating] | None = None,
        landmarks: FloatArray | None = None,
        occluded: Float32 | None = None,
    ) -> FrameChange:
        """The next frame of the track, not painted yet; other arguments as ``compose``.

        Args:
            occluded: ``[R, R]`` float32 0..1, how far something else is in front of the face.
        """
        source, change, soft = self._change(
            source_crop, rendered, edited, mask, edited_mask, landmarks, occluded
        )
        if self._linker is None:
            self._linker = Linker(len(source) / self.crop_scale)
        return self._linker.step(change, source=source, mask_RR=soft, occluded_RR=occluded)

    def _change(
        self,
        source_crop: npt.NDArray[np.uint8] | Float32,
        rendered: Float32,
        edited: Float32,
        mask: npt.NDArray[np.floating],
        edited_mask: npt.NDArray[np.floating] | None,
        landmarks: FloatArray | None,
        occluded: Float32 | None = None,
    ) -> tuple[Float32, Change, Float32]:
        """The source as float, its change, and the mask with its soft border.

        What is in front of the face lends it neither colour nor pixels; that the change keeps off
        it is for ``steadied``.
        """
        source = np.ascontiguousarray(source_crop, np.float32)
        rendered = np.ascontiguousarray(rendered, np.float32)
        edited = np.ascontiguousarray(edited, np.float32)
        _check_sizes(source, rendered=rendered, edited=edited, mask=mask)
        rendered, edited = match_colourlessness(source, rendered, edited)
        face_px = len(source) / self.crop_scale
        soft = fade_inwards(mask, face_px=face_px)
        visible = soft if occluded is None else soft * (1.0 - occluded)
        if not self.detail:
            return source, generated_change(source, edited, soft, visible, face_px=face_px), soft
        movable: Float32 | np.float32 = np.float32(1)
        if landmarks is not None:
            movable = 1.0 - rigid_parts(source, rendered, landmarks, face_px=face_px)
        face, after = np.asarray(mask, np.float32), edited_mask
        flow = self._estimator.estimate(rendered, edited, face_px=face_px)
        weight = activity_gate(rendered, edited, face_px=face_px) * soft * movable
        weight *= still_face(
            flow, face, None if after is None else np.asarray(after, np.float32), face_px=face_px
        )
        shown = face if occluded is None else face * (1.0 - occluded)
        flow = keep_on_face(flow * weight[..., None], shown)
        confidence, residual = explain(rendered, edited, flow=flow, face_px=face_px)
        change = transferred_change(
            source,
            rendered,
            edited,
            flow=flow,
            confidence=confidence,
            residual=residual,
            mask_RR=visible,
            weight_RR=weight,
            face_px=face_px,
        )
        return source, change, soft


def _check_sizes(source: Float32, **others: npt.NDArray[np.generic]) -> None:
    for name, other in others.items():
        if other.shape[:2] != source.shape[:2]:
            raise ValueError(f"{name} is {other.shape}, but source_crop is {source.shape}")
