"""The comment in outputs: what it says, and that it is known again."""

from __future__ import annotations

from vidinv.provenance import edit_comment, is_edit_comment
from vidinv.types import EditSpec, RenderMode
from vidinv.version import __version__

KEYS = {"smile": ((0.0, 1.5),), "age": ((0.0, 0.0), (2.5, -1.0))}


def test_the_comment_says_what_was_changed_and_by_what():
    comment = edit_comment(EditSpec(KEYS), pack="faces-128")
    assert comment == (
        f"AI-edited faces (vidinv {__version__}: smile=1.5 age=0:0,2.5:-1; "
        "method fse; pack faces-128)"
    )
    assert is_edit_comment(f"Holiday | {comment}")
    assert not is_edit_comment("Holiday")


def test_an_inversion_is_no_edit_of_an_attribute():
    comment = edit_comment(EditSpec(KEYS, mode=RenderMode.INVERT), pack="p")
    assert f"{__version__}: inversion; method fse" in comment
    assert is_edit_comment(comment)
