"""Pasting edited faces back into full frames: masks, detail transfer, blending."""

from vidinv.compose.change import Change
from vidinv.compose.composer import Composer
from vidinv.compose.masks import fade_inwards
from vidinv.compose.paste import apply_change
from vidinv.compose.steady import FrameChange, steadied

__all__ = ["Change", "Composer", "FrameChange", "apply_change", "fade_inwards", "steadied"]
