"""The script that compares all that two files say."""

from __future__ import annotations

from tests.video.clips import make_clip
from tests.video.compare_media import differences
from vidinv.video import copy_media


def test_a_copy_does_not_differ(tmp_path):
    source = make_clip(tmp_path / "a.mp4", num_frames=3, audio=True)
    copy_media(source, tmp_path / "b.mp4")
    assert differences(source, tmp_path / "b.mp4") == []


def test_what_differs_is_named(tmp_path):
    source = make_clip(tmp_path / "a.mkv", num_frames=3, audio=True)
    other = make_clip(tmp_path / "b.mp4", num_frames=4, pix_fmt="yuv444p")
    found = differences(source, other)
    assert any(text.startswith("audio 0") for text in found)
    assert "video 0 pix_fmt: yuv420p -> yuv444p" in found
    assert "video 0 packets: 3 -> 4" in found
