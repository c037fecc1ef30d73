"""The comment in every output whose faces are not the source's: one line for people and scripts.

It stands in the container's ``comment``, and in the description of a picture's EXIF; see
``docs/PROVENANCE.md``.
"""

from __future__ import annotations

from vidinv.editing.schedules import Keyframes
from vidinv.types import EditSpec, RenderMode
from vidinv.version import __version__

_START = "AI-edited faces (vidinv "


def edit_comment(spec: EditSpec, *, pack: str) -> str:
    """``AI-edited faces (vidinv 0.1.0: smile=1; method fse; pack faces-128)``.

    Args:
        pack: name of the model pack.
    """
    if spec.mode is RenderMode.INVERT:
        what = "inversion"
    else:
        what = " ".join(f"{name}={_value(keys)}" for name, keys in spec.attributes.items())
    return made_comment(what, method=spec.method, pack=pack)


def made_comment(what: str, *, method: str, pack: str) -> str:
    """The same for faces that were made in another way, e.g. ``"interpolation"``."""
    return f"{_START}{__version__}: {what}; method {method}; pack {pack})"


def is_edit_comment(text: str) -> bool:
    """A file's comment says that vidinv has edited its faces, now or in an earlier run."""
    return _START in text


def _value(keyframes: Keyframes) -> str:
    """As ``--attr`` takes it."""
    if len(keyframes) == 1:
        return f"{keyframes[0][1]:g}"
    return ",".join(f"{seconds:g}:{strength:g}" for seconds, strength in keyframes)
