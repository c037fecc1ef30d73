"""What lies in front of a face, or beside it, as a face-parsing network of the pack sees it.

A network of role ``parsing`` (``vidinv.networks.registry``) names its classes, one for each channel
of its logits, and the side of the picture that it wants, in FFHQ's crop, since that is what face
parsing is trained on (CelebAMask-HQ; docs/REFERENCES.md, "Face parsing"). An edit may repaint what
is of the face; hair, glasses, hat, cloth and background keep the source, and so do hands or
microphones where a network has classes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vidinv.errors import UsageError
from vidinv.faces import FFHQ, extract_crop
from vidinv.types import Crop, Image

Float32 = npt.NDArray[np.float32]

OCCLUSION = ("auto", "off")  # ``EditSpec.occlusion``
# Of the crop's side: how far the source is kept around what is in front. A change is laid on the
# frame by bicubic enlargement, which would draw the skin beside a finger over its edge.
MARGIN = 1.5 / 128

FACE_CLASSES = frozenset(
    (
        *("skin", "left_brow", "right_brow", "left_eye", "right_eye", "left_ear", "right_ear"),
        *("nose", "mouth", "upper_lip", "lower_lip", "neck"),
    )
)


def check_occlusion(value: str) -> None:
    """UsageError for what is no ``EditSpec.occlusion``."""
    if value not in OCCLUSION:
        raise UsageError(f"occlusion {value!r}: there are: {', '.join(OCCLUSION)}")


class ParsingNetwork(Protocol):
    """Classes of every pixel."""

    classes: Sequence[str]
    input_px: int

    def normalise(self, pictures_N3HW: Tensor) -> Tensor:
        """Pictures in [-1, 1] as the network wants them."""

    def __call__(self, x_N3HW: Tensor) -> Tensor:
        """Logits ``[N, len(classes), H, W]``."""


class OccluderFinder:
    """Says where a crop of a face shows something else.

    Args:
        network: on ``device``.
    """

    def __init__(self, network: ParsingNetwork, device: torch.device) -> None:
        self._network, self._device = network, device
        self._others = [i for i, name in enumerate(network.classes) if name not in FACE_CLASSES]

    def __call__(
        self, image: Image, *, crop: Crop, landmarks_682: Float32, size_px: int
    ) -> Float32:
        """``[size_px, size_px]`` 0..1: the share of each pixel of ``crop`` that is no face.

        Args:
            image: RGB ``[H, W, 3]`` uint8 or uint16.
            landmarks_682: in frame pixels.
        """
        seen = FFHQ.crop(landmarks_682, pixel_aspect=crop.pixel_aspect)
        # About as fine as it is wanted, so that laying it on the crop does not alias.
        side_px = min(self._network.input_px, max(8, round(size_px * seen.side_px / crop.side_px)))
        share = self._share(extract_crop(image, seen, self._network.input_px), side_px)
        to_frame = np.vstack([crop.crop_to_frame(size_px), [0.0, 0.0, 1.0]])
        laid = cv2.warpAffine(
            share,
            (seen.frame_to_crop(side_px) @ to_frame),
            (size_px, size_px),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        reach = max(1, round(MARGIN * size_px))
        around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
        return np.asarray(cv2.dilate(laid, around), np.float32)

    @torch.inference_mode()
    def _share(self, picture: Image, side_px: int) -> Float32:
        """``[side_px, side_px]``; by itself, whoever else is in the frame."""
        top = np.float32(np.iinfo(picture.dtype).max)
        x_13PP = torch.from_numpy(picture.astype(np.float32) / top * 2 - 1).permute(2, 0, 1)[None]
        logits = self._network(self._network.normalise(x_13PP.to(self._device)))
        share = logits.float().softmax(1)[:, self._others].sum(1, keepdim=True)
        small = F.interpolate(share, (side_px, side_px), mode="area")[0, 0]
        return np.asarray(small.clamp(0, 1).cpu().numpy(), np.float32)
