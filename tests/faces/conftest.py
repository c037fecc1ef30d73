"""Real frames from ../shared/clips, read once; recompositions are made from them in code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import pytest

from vidinv.faces import TIGHT, analyse
from vidinv.types import Analysis, Frame, Image

Clip = Callable[[str, int], list[Image]]


@cache
def _decode(path: Path, count: int) -> list[Image]:
    images: list[Image] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            images.append(frame.to_ndarray(format="rgb24"))
            if len(images) == count:
                break
    return images


@pytest.fixture(scope="session")
def clip(shared_dir: Path) -> Clip:
    """``clip(name, count)``: the first frames of a real clip."""
    return lambda name, count: list(_decode(shared_dir / "clips" / name, count))


def analyse_images(
    images: Sequence[Image],
    *,
    cuts: Sequence[int] = (),
    pixel_aspect: float = 1.0,
    new_shot: Callable[[Image], int | None] | None = None,
) -> Analysis:
    """Analyse pictures as a clip at 25 frames a second with shots starting at ``cuts``.

    Args:
        new_shot: finds shots in their place.
    """
    calls = iter(range(len(images)))
    frames = (Frame(i, i, Fraction(1, 25), image) for i, image in enumerate(images))
    return analyse(
        frames,
        new_shot=new_shot or (lambda _: 0 if next(calls) in cuts else None),
        alignment=TIGHT,
        pixel_aspect=pixel_aspect,
    )
