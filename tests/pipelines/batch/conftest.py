"""A face clip and a tiny pack."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.demo import make_clip
from tests.packs.tiny import write_tiny_pack
from vidinv.packs import load_pack

FRAMES = 22


@pytest.fixture(scope="session")
def face_clip(tmp_path_factory) -> Path:
    """A generated face for 22 frames with sound."""
    path = tmp_path_factory.mktemp("clips") / "face.mp4"
    return make_clip(load_pack(), path, seconds=FRAMES / 25, size_px=256)


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory) -> Path:
    return write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny")
