"""File names as text that any reader takes."""

from __future__ import annotations

import json
import os

from vidinv.files import printable, printable_values

NAME = os.fsdecode(b"b\xff\xc3\xa9.mp4")
SHOWN = "b\\udcff\u00e9.mp4"


def test_a_name_that_is_not_utf8_is_escaped_and_others_stay():
    assert printable(NAME) == SHOWN
    assert printable("\u00e9 \U0001f600\n") == "\u00e9 \U0001f600\n"


def test_every_text_of_a_row_is_escaped():
    row = {"input": NAME, NAME: [NAME, {"cause": NAME}], "frames": 3, "report": None, "x": (0.5,)}
    shown = printable_values(row)
    assert shown == {
        "input": SHOWN,
        SHOWN: [SHOWN, {"cause": SHOWN}],
        "frames": 3,
        "report": None,
        "x": [0.5],
    }
    json.dumps(shown, ensure_ascii=False).encode()
