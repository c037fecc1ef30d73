"""A method that uses everything the interface offers, without networks: fit, chain, lost codes.

Its latents are a running mean of the faces' brightness; its pictures are the fitted mean face, as
bright as the latents say, plus what the source differs by.
"""

from __future__ import annotations

import torch

from vidinv.inversion import Code, Inverter, TrackState
from vidinv.inversion.base import own_state
from vidinv.types import Inversion, RenderMode


class ToyInverter(Inverter):
    """``fits`` counts the fits, ``encodes`` the encodings, of all that were built."""

    name = "toy"
    needs_weights = False
    sample_frames = 3
    chain_chunks = 2
    codes = {"difference": Code("x - the fitted mean face", stored=None)}  # noqa: RUF012
    fits: list[int] = []  # noqa: RUF012
    encodes: list[int] = []  # noqa: RUF012

    def __init__(self, num_ws, w_dim):
        self.shape = (num_ws, w_dim)

    @classmethod
    def build(cls, parts):
        return cls(parts.generator.num_ws, parts.generator.w_dim)

    def fit(self, sample_N3RR, *, progress=lambda share: None):
        self.fits.append(len(sample_N3RR))
        progress(1.0)
        return TrackState(
            self.name, {"mean": sample_N3RR.mean(dim=0)}, {"frames": len(sample_N3RR)}
        )

    def encode(self, faces_N3RR, state=None, *, mode=RenderMode.INVERT, previous=None):
        self.encodes.append(len(faces_N3RR))
        mean = torch.zeros([]) if previous is None else previous.latents_NLD[-1, 0, 0]
        rows = []
        for face in faces_N3RR:
            mean = 0.5 * mean + 0.5 * face.mean()
            rows.append(mean.expand(self.shape))
        return self.recompute(faces_N3RR, Inversion(torch.stack(rows)), state, mode=mode)

    def recompute(self, faces_N3RR, inversion, state=None, *, mode=RenderMode.INVERT):
        difference = faces_N3RR - own_state(self, state).tensors["mean"]
        return Inversion(inversion.latents_NLD, {"difference": difference})

    def render(self, inversion, edited, state=None, *, mode=RenderMode.INVERT):
        brightness = edited.latents_NLD.mean(dim=(1, 2))[:, None, None, None]
        mean = own_state(self, state).tensors["mean"]
        return mean + brightness + 0.5 * inversion.codes["difference"]
