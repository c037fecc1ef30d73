"""FID and KID of what methods make of a benchmark's faces, against these faces."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipelines.bench.methods import BenchFaces
from pipelines.still_faces import as_batch
from vidinv.metrics import efficientnet
from vidinv.metrics.distribution import crowd_features, frechet_distance, kernel_distance
from vidinv.rendering import Float32, to_tensor

BIASED_BELOW = 2000  # faces: under it FID is mostly its own bias


class SourceCrowd:
    """The source faces as a crowd; ``notes`` say whose features serve, or why there are none.

    Args:
        side_px: of the faces.
    """

    def __init__(self, faces: BenchFaces, side_px: int) -> None:
        count = len(faces.all)
        reason = efficientnet.absent()
        if side_px % efficientnet.STRIDES[-1]:
            reason = f"its network takes multiples of {efficientnet.STRIDES[-1]} px, not {side_px}"
        if count < 2:
            reason = "it needs two faces at least"
        self._sources: Tensor | None = None
        if reason:
            self.notes = [f"FID and KID are absent: {reason}"]
            return
        bias = f"; FID of {count} faces is biased upwards" if count < BIASED_BELOW else ""
        self.notes = [f"FID and KID are on features of {efficientnet.NAME}{bias}"]
        self._sources = crowd_features(as_batch([face]) for face in faces.all)

    def features(self, pictures_NRR3: Float32) -> Tensor | None:
        """``[N, 320]`` of pictures 0..255, to be kept for ``distances``."""
        return None if self._sources is None else crowd_features([to_tensor(pictures_NRR3)])

    def distances(self, features: Tensor | None) -> dict[str, float | None]:
        """``fid`` and ``kid`` of a crowd of pictures, None where they cannot be had."""
        if features is None or self._sources is None or len(features) < 2:
            return {"fid": None, "kid": None}
        return {
            "fid": round(frechet_distance(features, self._sources), 5),
            "kid": round(kernel_distance(features, self._sources), 5),
        }


def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """The features of all parts; None where there are none."""
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None
