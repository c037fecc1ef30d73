"""Captions of sheets: whole where there is room for lines, else with dots at their end."""

from __future__ import annotations

import numpy as np

from vidinv.sheets import CAPTION_PX, NO_BREAK, captioned, sheet

TILE = np.zeros((220, 220, 3), np.uint8)
LONG = ", ".join(f"attribute{NO_BREAK}{n}.5" for n in range(4))


def ink(picture):
    """Whether each column of the strip has some."""
    return (picture[:CAPTION_PX] < 128).any(axis=(0, 2))


def strips(picture, lines):
    return np.split(picture[: lines * CAPTION_PX], lines)


def test_a_caption_that_does_not_fit_ends_in_dots():
    cut = captioned(TILE, "x" * 100)
    assert not ink(cut)[-4:].any()
    assert ink(cut)[-20:].any()


def test_captions_of_a_sheet_are_whole():
    picture = sheet([[("source", TILE), (LONG, TILE)]], side_px=220, whole_captions=True)
    assert picture.shape == (2 * CAPTION_PX + 220, 440, 3)
    first, second = strips(picture[:, 220:], 2)
    one, two = LONG.replace(NO_BREAK, " ")[:-14], "attribute 3.5"
    assert np.array_equal(first, captioned(TILE, one)[:CAPTION_PX])
    assert np.array_equal(second, captioned(TILE, two)[:CAPTION_PX])
    assert np.array_equal(strips(picture[:, :220], 2)[0], captioned(TILE, "source")[:CAPTION_PX])
