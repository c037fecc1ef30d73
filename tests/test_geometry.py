"""Points go where OpenCV's warps put the pixels."""

from __future__ import annotations

import cv2
import numpy as np

from vidinv.geometry import transform_points
from vidinv.types import Crop


def test_points_go_where_opencv_takes_them():
    matrix = np.array([[0.5, -2.0, 3.0], [1.0, 0.25, -7.0]])
    points = np.random.default_rng(0).uniform(-50, 50, (3, 68, 2)).astype(np.float32)
    found = transform_points(points, matrix)
    assert found.shape == points.shape
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, cv2.transform(points, matrix), atol=1e-4)


def test_into_the_crop_and_back():
    crop = Crop(40.0, 30.0, 12.0, 5.0)
    corners = transform_points(np.array([[-0.5, -0.5], [31.5, 31.5]]), crop.crop_to_frame(32))
    np.testing.assert_allclose(corners.mean(0), [40.0, 30.0])
    back = transform_points(corners, crop.frame_to_crop(32))
    np.testing.assert_allclose(back, [[-0.5, -0.5], [31.5, 31.5]], atol=1e-9)
