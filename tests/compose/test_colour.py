"""What is grey stays grey, and colour is left alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.compose.faces import face_mask, textured_face
from vidinv.compose import Composer
from vidinv.compose.colour import match_colourlessness
from vidinv.types import Crop

SIZE = 128
WHOLE = Crop((SIZE - 1) / 2, (SIZE - 1) / 2, SIZE / 2, 0.0)


def grey_face() -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(textured_face(SIZE), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


@pytest.mark.parametrize("detail", [True, False])
@pytest.mark.parametrize("noise", [0, 2])
def test_a_black_and_white_frame_stays_black_and_white(detail, noise):
    """Also with the noise that a codec leaves in its chroma."""
    rng = np.random.default_rng(0)
    source = grey_face() + rng.integers(0, noise + 1, (SIZE, SIZE, 3)).astype(np.uint8)
    rendered = textured_face(SIZE, seed=1).astype(np.float32)
    edited = cv2.warpAffine(rendered, np.float32([[1, 0, 3], [0, 1, 0]]), (SIZE, SIZE))
    output = Composer(detail=detail).compose(
        source,
        crop=WHOLE,
        source_crop=source,
        rendered=rendered,
        edited=edited,
        mask=face_mask(SIZE),
    )
    assert not np.array_equal(output, source)
    assert np.ptp(output.astype(int), axis=2).max() <= noise + 1


def test_pictures_of_a_colour_clip_are_left_as_they_are():
    source = textured_face(SIZE).astype(np.float32)
    assert match_colourlessness(source, source)[0] is source
    dark = source / 12
    assert match_colourlessness(dark, source)[0] is source
