"""What pixels tell without labels rises with what its name says, on drawn faces."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vidinv.metrics.appearance import APPEARANCE, measure_appearance

# A plain frontal face of 68 points in a 128 px crop.
JAW = [(64 - 42 * np.cos(a), 50 + 58 * np.sin(a)) for a in np.linspace(0, np.pi, 17)]
BROWS = [(x, 38.0) for x in (28, 34, 40, 46, 52, 76, 82, 88, 94, 100)]
NOSE = [(64, 50), (64, 57), (64, 64), (64, 70), (56, 74), (60, 75), (64, 76), (68, 75), (72, 74)]
EYES = [(34, 52), (38, 49), (44, 49), (48, 52), (44, 55), (38, 55)]
EYES += [(80, 52), (84, 49), (90, 49), (94, 52), (90, 55), (84, 55)]
MOUTH = [(46, 88), (52, 85), (58, 83), (64, 84), (70, 83), (76, 85), (82, 88)]
MOUTH += [(76, 92), (70, 94), (64, 95), (58, 94), (52, 92)]
MOUTH += [(50, 88), (58, 87), (64, 87), (70, 87), (78, 88), (70, 89), (64, 89), (58, 89)]
FACE = np.array([*JAW, *BROWS, *NOSE, *EYES, *MOUTH], np.float32)


def drawn() -> np.ndarray:
    """Skin with a little grain, and two dark eyes."""
    grain = np.random.default_rng(0).integers(-3, 4, (128, 128, 3))
    image = (np.full((128, 128, 3), (200, 160, 140)) + grain).astype(np.uint8)
    for eye in (FACE[36:42], FACE[42:48]):
        cv2.fillPoly(image, [eye.astype(np.int32)], (60, 40, 30))
    return image


def bearded() -> tuple[np.ndarray, np.ndarray]:
    image = drawn()
    cv2.rectangle(image, (40, 77), (88, 122), (70, 50, 40), -1)
    return image, FACE


def with_glasses() -> tuple[np.ndarray, np.ndarray]:
    image = drawn()
    for x in (41, 87):
        cv2.circle(image, (x, 53), 13, (20, 20, 20), 2)
    cv2.line(image, (54, 52), (74, 52), (20, 20, 20), 2)
    return image, FACE


def with_fuller_lips() -> tuple[np.ndarray, np.ndarray]:
    face = FACE.copy()
    face[55:60, 1] += 4
    return drawn(), face


def with_higher_brows() -> tuple[np.ndarray, np.ndarray]:
    face = FACE.copy()
    face[17:27, 1] -= 4
    return drawn(), face


def with_darker_irises() -> tuple[np.ndarray, np.ndarray]:
    image = drawn()
    for eye in (FACE[36:42], FACE[42:48]):
        cv2.circle(image, eye.mean(0).astype(int).tolist(), 3, (10, 5, 5), -1)
    return image, FACE


MAKERS = bearded, with_glasses, with_fuller_lips, with_higher_brows, with_darker_irises
MADE_UP = dict(zip(APPEARANCE, MAKERS, strict=True))


@pytest.mark.parametrize("name", APPEARANCE)
def test_each_measure_rises_with_its_name_and_most_of_all(name):
    image, face = MADE_UP[name]()
    (plain, changed), _ = measure_appearance([drawn(), image], np.stack([FACE, face]))
    index = APPEARANCE.index(name)
    assert changed[index] > plain[index] + 0.05
    if name in ("lips", "brows"):  # pixels stay, so nothing else but places of them changes
        np.testing.assert_allclose(changed[1], plain[1], atol=1e-6)


def test_measures_do_not_depend_on_the_size_of_the_picture():
    large = cv2.resize(drawn(), (256, 256), interpolation=cv2.INTER_NEAREST)
    (small, enlarged), _ = measure_appearance([drawn(), large], np.stack([FACE, FACE]))
    np.testing.assert_allclose(enlarged, small, atol=1e-6)


def test_contrast_is_told_apart_from_what_is_there():
    faint = (drawn().astype(np.float32) * 0.5 + 64).astype(np.uint8)
    measures, contrast = measure_appearance([drawn(), faint], np.stack([FACE, FACE]))
    assert (contrast[1] < contrast[0]).all()
    # But for the irises: those of a faint picture are pale.
    np.testing.assert_allclose(measures[1, :-1], measures[0, :-1], atol=0.1)
    assert measures[1, -1] < measures[0, -1]


def test_a_face_that_leaves_the_picture_is_measured_still():
    measures, contrast = measure_appearance([drawn()], FACE[None] + 90)
    assert np.isfinite(measures).all()
    assert np.isfinite(contrast).all()
