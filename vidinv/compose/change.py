"""What an edit changes, as fields over the aligned crop that can be laid on any frame.

A ``Change`` says, for each crop pixel, where the source is to be sampled (``flow``), how much of
it is dropped (``loss``) and what is added (``add``):

    output(p) = (1 - loss(p)) * source(p + flow(p)) + add(p)

so a change of nothing leaves the source bit for bit, and detail of the frame is resampled once.

Detail transfer (docs/REFERENCES.md): flow f and residual r = G(w~) - warp(G(w), f) are both
computed between two pictures of the generator, so its inversion error cancels. With confidence c
(low where the warp does not explain the picture: teeth, opened eyes), gate g (0 where nothing
changes) and mask m:

    flow = g m f,   loss = g m (1 - c),   add = g m (c r + (1 - c) (G(w~) + crisp + tone))

where tone is the low-frequency part of source - G(w), of its colour less low than of its light, and
crisp gives new parts as much fine contrast as the source has, where G(w) has less. All this
presumes a generator that shows the face as sharply as its size allows. One that blurs (G(w) of
a small model) says where parts of the face go, but what it adds is a pale blob: with sharpness t,
how much of the source's fine contrast G(w) shows, ``loss`` is t times the above and ``add`` is
mixed with a shading of the warped source, the luma of r without its low frequencies. Flow fades
with the mask instead of being blended away with it, so that a moving jaw line never shows double.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidinv.compose.flow import Float32, warp
from vidinv.compose.masks import border_offset, smooth_difference, smoothstep

# Lengths are in sides of the tight crop (``face_px``: that side in pixels), so that an edit is
# judged alike whatever the generator's size and crop.
RESIDUAL_SIGMA = 1.2 / 64
# Detail stretched over more than twice its area is dropped gradually, ten times wholly: without
# this, lips drawn apart show streaks (seen on portrait_glasses; mouth +0.3 dB at 128 px, blurred).
AREA_KEPT = (0.1, 0.5)
# Where an edit acts, in levels of green: local structure from 1 (blur of a drift stays under) to 3,
# or a change of tone from 4 to 10. A smooth drift of 2.5 levels then leaves the skin alone, and
# an edit that darkens the whole face by 25 is kept (tests/compose/test_composer.py).
STRUCTURE_LEVELS = (1.0, 3.0)
TONE_LEVELS = (4.0, 10.0)
GATE_LOW_SIGMA, GATE_STRUCTURE_SIGMA = 1 / 16, 1 / 24
TONE_SIGMA = 1 / 20  # inversion error finer than this belongs to the picture before the edit
COLOUR_SIGMA = 1 / 50  # colour is matched more finely: irises keep theirs (docs/LOG.md)
GREY = np.full((3, 3), 1 / 3, np.float32)  # each channel becomes the mean of all three
# Fine contrast (SHARPNESS_SIGMA) of the generator's picture over the source's, as an amplitude: not
# believed below the first number, wholly from the second on. G(w) of faces-128 shows 0.41-0.74 of
# fourteen strangers, and its teeth are teeth; a 64 px autoencoder's are a pale blob (docs/LOG.md).
SHARPNESS = (0.25, 0.4)
SHARPNESS_SIGMA = 1 / 64
MAX_CRISP = 1.0  # times the fine contrast that is there; twice that rings (docs/LOG.md)
# Shading without sharpness: darkness (an opened mouth, a fold) is believable when blurred, light
# (teeth) is not; colour never is. Judged by eye on strangers (docs/LOG.md).
SHADE_DARK, SHADE_LIGHT = 0.8, 0.3
SHADE_SIGMA = 1 / 10
CONFIDENCE_LEVELS = 18.0  # of 255: docs/REFERENCES.md, "Detail transfer"


@dataclass(frozen=True, slots=True)
class Change:
    """Fields of one face in one frame.

    Attributes:
        flow_RR2: ``[R, R, 2]`` float32, where to sample the source, in crop pixels from here.
        loss_RR: ``[R, R]`` float32 0..1, fraction of the source that is dropped.
        add_RR3: ``[R, R, 3]`` float32 RGB in levels of 0..255, added.
    """

    flow_RR2: Float32
    loss_RR: Float32
    add_RR3: Float32

    @property
    def acts(self) -> bool:
        """It is not nothing."""
        return bool(self.loss_RR.any() or self.add_RR3.any() or self.flow_RR2.any())

    def scaled(self, opacity: float) -> Change:
        """Part of the change: 0 leaves the source, 1 is all of it."""
        if opacity == 1.0:
            return self
        return Change(
            *(np.float32(opacity) * f for f in (self.flow_RR2, self.loss_RR, self.add_RR3))
        )

    def within(self, share_RR: Float32) -> Change:
        """The same, pixel by pixel: ``[R, R]`` float32 0..1."""
        share = share_RR[..., None]
        return Change(self.flow_RR2 * share, self.loss_RR * share_RR, self.add_RR3 * share)


def generated_change(
    source: Float32, edited: Float32, mask_RR: Float32, visible_RR: Float32, *, face_px: float
) -> Change:
    """The generator's own picture instead of the source, matched in tone at the mask's border.

    Args:
        source, edited: RGB ``[R, R, 3]`` float32, 0..255.
        mask_RR: ``[R, R]`` float32 feathered mask.
        visible_RR: the same without what is in front of the face.
        face_px: side of the tight crop in pixels of the pictures.
    """
    tone = border_offset(source, edited, mask_RR, visible_RR, face_px=face_px)
    weight = mask_RR[..., None]
    flow = np.zeros((*mask_RR.shape, 2), np.float32)
    return Change(flow, mask_RR, (edited + tone) * weight)


def activity_gate(rendered: Float32, edited: Float32, *, face_px: float) -> Float32:
    """``[R, R]`` 0..1: where the edit does something, as opposed to drifting a little.

    Args:
        rendered, edited: RGB ``[R, R, 3]`` float32, 0..255.
        face_px: side of the tight crop in pixels of the pictures.
    """
    size = rendered.shape[0]
    half = (size // 2, size // 2)
    # Green carries most of the luminance and lips stand out in it: one channel is enough here.
    green = cv2.extractChannel(edited, 1) - cv2.extractChannel(rendered, 1)
    difference = np.asarray(cv2.resize(green, half, interpolation=cv2.INTER_AREA), np.float32)
    low = cv2.GaussianBlur(difference, (0, 0), GATE_LOW_SIGMA * face_px / 2)
    structure = cv2.GaussianBlur(
        np.abs(difference - low), (0, 0), GATE_STRUCTURE_SIGMA * face_px / 2
    )
    gate = np.maximum(
        smoothstep(structure, *STRUCTURE_LEVELS), smoothstep(np.abs(low), *TONE_LEVELS)
    )
    return np.asarray(cv2.resize(gate, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


def explain(
    rendered: Float32, edited: Float32, *, flow: Float32, face_px: float
) -> tuple[Float32, Float32]:
    """How well the flow explains the edit, and what it leaves over.

    Args:
        rendered, edited: RGB ``[R, R, 3]`` float32, 0..255.
        flow: ``[R, R, 2]`` float32, already weighted.
        face_px: side of the tight crop in pixels of the pictures.

    Returns:
        confidence ``[R, R]`` 0..1 and residual ``[R, R, 3]``.
    """
    residual = edited - warp(rendered, flow)
    size = cv2.GaussianBlur(np.abs(residual).mean(2), (0, 0), RESIDUAL_SIGMA * face_px)
    confidence = np.exp(-((size / CONFIDENCE_LEVELS) ** 2)) * smoothstep(_area(flow), *AREA_KEPT)
    return np.asarray(confidence, np.float32), residual


def _area(flow: Float32) -> Float32:
    """``[R, R]``: area of the source behind one output pixel, det(I + grad flow); 1 at rest."""
    # Central differences over 2 px (Sobel with kernel 1 gives their double).
    dx = cv2.Sobel(flow, cv2.CV_32F, 1, 0, ksize=1, scale=0.5)
    dy = cv2.Sobel(flow, cv2.CV_32F, 0, 1, ksize=1, scale=0.5)
    determinant = (1.0 + dx[..., 0]) * (1.0 + dy[..., 1]) - dx[..., 1] * dy[..., 0]
    return np.asarray(determinant, np.float32)


def transferred_change(
    source: Float32,
    rendered: Float32,
    edited: Float32,
    *,
    flow: Float32,
    confidence: Float32,
    residual: Float32,
    mask_RR: Float32,
    weight_RR: Float32,
    face_px: float,
) -> Change:
    """Put the parts of detail transfer together (equations on top of this file)."""
    tone = _tone(source, rendered, mask_RR, face_px)
    shown = fine_contrast(source, rendered, mask_RR, face_px=face_px)
    c, trust = confidence[..., None], float(smoothstep(np.full(1, shown), *SHARPNESS)[0])
    crisp = min(max(1.0 / max(shown, 1e-3) - 1.0, 0.0), MAX_CRISP) * _fine(edited, face_px)
    sharp = c * residual + (1.0 - c) * (edited + crisp[..., None] + tone)
    add = trust * sharp + (1.0 - trust) * _shade(residual, face_px)[..., None]
    return Change(flow, trust * (1.0 - confidence) * weight_RR, add * weight_RR[..., None])


def _tone(source: Float32, rendered: Float32, mask_RR: Float32, face_px: float) -> Float32:
    """``[R, R, 3]``: what gives the generator's picture the source's light and colour."""
    low = smooth_difference(source, rendered, mask_RR, sigma_px=TONE_SIGMA * face_px)
    difference = source - rendered
    colour = difference - cv2.transform(difference, GREY)
    smooth_colour = cv2.GaussianBlur(colour, (0, 0), COLOUR_SIGMA * face_px)
    return np.asarray(cv2.transform(low, GREY) + smooth_colour, np.float32)


def fine_contrast(source: Float32, rendered: Float32, mask_RR: Float32, *, face_px: float) -> float:
    """Of the generator's picture inside the mask, as a share of the source's amplitude."""
    shown, real = (float((_fine(x, face_px) ** 2 * mask_RR).sum()) for x in (rendered, source))
    return float(np.sqrt(shown / max(real, 1e-6)))


def _fine(image: Float32, face_px: float) -> Float32:
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    low = cv2.GaussianBlur(luma, (0, 0), SHARPNESS_SIGMA * face_px)
    return np.asarray(luma - low, np.float32)


def _shade(residual: Float32, face_px: float) -> Float32:
    """``[R, R]`` levels: what a blurred change adds to the warped source."""
    luma = residual.mean(2)
    band = luma - cv2.GaussianBlur(luma, (0, 0), SHADE_SIGMA * face_px)
    return np.asarray(np.where(band < 0, SHADE_DARK, SHADE_LIGHT) * band, np.float32)
