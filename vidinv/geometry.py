"""Points through affine maps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vidinv.types import FloatArray


def transform_points(points: FloatArray, matrix: FloatArray) -> npt.NDArray[np.float64]:
    """``[..., 2]`` points (x, y) through a ``[2, 3]`` affine matrix, as OpenCV takes it.

    With ``Crop.frame_to_crop`` and ``Crop.crop_to_frame``: between frame and crop pixels.
    """
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float64)
