"""What configurations have in common whose layers come in pairs, two at each size from 4 px."""

from __future__ import annotations

import math


class PyramidConfig:
    """Two layers at each of 4, 8, ..., R; channels(r) = min(channel_base / r, channel_max)."""

    resolution: int
    channel_base: int
    channel_max: int

    def __post_init__(self) -> None:
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 8, got {self.resolution}")

    @property
    def resolutions(self) -> tuple[int, ...]:
        return tuple(2**i for i in range(2, int(math.log2(self.resolution)) + 1))

    @property
    def num_classes(self) -> int:
        return 0

    @property
    def has_partial_passes(self) -> bool:
        return True

    @property
    def num_layers(self) -> int:
        return 2 * len(self.resolutions)

    def channels(self, resolution: int) -> int:
        return min(self.channel_base // resolution, self.channel_max)

    def feature_shape(self, layer: int) -> tuple[int, int, int]:
        if not 1 <= layer <= self.num_layers:
            raise ValueError(f"layer must be in 1..{self.num_layers}, got {layer}")
        side = 4 << (layer - 1) // 2
        return self.channels(side), side, side

    def feature_margin(self, layer: int) -> int:
        return 0

    def layer_after(self, resolution: int) -> int:
        """There is a picture at the end alone."""
        if resolution != self.resolution:
            raise ValueError(f"resolution must be {self.resolution}, got {resolution}")
        return self.num_layers
