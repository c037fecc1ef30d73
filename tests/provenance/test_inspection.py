"""``vidinv inspect``: what a file says about its making, for people and as JSON."""

from __future__ import annotations

import json

import pytest

from tests.video.clips import make_clip, pattern
from vidinv.cli import main
from vidinv.errors import DecodeError, MissingDependencyError
from vidinv.provenance import edit_comment
from vidinv.provenance.inspection import inspect
from vidinv.types import EditSpec
from vidinv.video import write_image

COMMENT = edit_comment(EditSpec({"smile": ((0.0, 1.0),)}), pack="faces")
FOUND = {
    "active_manifest": "m",
    "validation_state": "Valid",
    "manifests": {
        "m": {
            "signature_info": {"common_name": "Studio"},
            "ingredients": [{"title": "raw.mp4", "format": "video/mp4"}],
            "assertions": [
                {"label": "c2pa.hash.bmff.v3", "data": {}},
                {
                    "label": "c2pa.actions.v2",
                    "data": {
                        "actions": [
                            {
                                "action": "c2pa.edited",
                                "description": "smile",
                                "digitalSourceType": "http://x/compositeWithTrained",
                            }
                        ]
                    },
                },
            ],
        }
    },
}


def absent(path):
    raise MissingDependencyError("content credentials need c2pa-python")


def test_comment_and_credentials_of_a_picture_are_shown(tmp_path):
    write_image(tmp_path / "a.jpg", pattern(0), comment=COMMENT)
    found = inspect(tmp_path / "a.jpg", read=lambda path: FOUND)
    lines = "\n".join(found.lines())
    assert found.is_edited
    assert COMMENT in lines
    assert "signed by         Studio" in lines
    assert "c2pa.edited, smile, compositeWithTrained" in lines
    assert "made from         raw.mp4 (video/mp4)" in lines
    assert "signed by somebody unknown" in lines
    json.dumps(found.as_dict())


def test_a_clip_without_either_is_shown_too(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", num_frames=12, audio=True)
    found = inspect(clip, read=lambda path: None)
    assert not found.is_edited
    streams = [(s["kind"], s["codec"]) for s in found.description["streams"]]
    assert sorted(streams) == [("audio", "aac"), ("video", "h264")]
    assert "credentials       none in the file" in found.lines()
    missing = inspect(clip, read=absent)
    assert "credentials       not read: content credentials need c2pa-python" in missing.lines()


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "absent.mp4"])
def test_what_is_no_media_is_told(tmp_path, name):
    if name != "absent.mp4":
        (tmp_path / name).write_bytes(b"text" * 100)
    with pytest.raises(DecodeError, match=name):
        inspect(tmp_path / name)


def test_the_command_prints_lines_or_json(tmp_path, capsys):
    write_image(tmp_path / "a.png", pattern(0), comment=COMMENT)
    assert main(["inspect", str(tmp_path / "a.png")]) == 0
    assert "edited            by vidinv" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "a.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["edited_by_vidinv"] is True
    assert main(["inspect", str(tmp_path / "a.heic")]) == 2
