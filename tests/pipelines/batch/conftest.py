"""A face clip, a tiny pack, and one Ray on this machine that all tests here share."""

from __future__ import annotations

import os
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


@pytest.fixture(scope="session")
def local_ray():
    ray = pytest.importorskip("ray", reason="needs Ray: pip install -e .")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
    )
    yield ray
    ray.shutdown()
