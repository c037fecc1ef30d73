"""Shared fixtures: the data beside the repository, files of the extra ``train``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Signing costs every output a child process: tests of it turn it on.
os.environ.setdefault("VIDINV_CREDENTIALS", "off")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """``../shared``: clips, faces and golden vectors; absent in a public clone."""
    path = REPOSITORY.parent / "shared"
    if path.is_dir():
        return path
    reason = f"needs {path} (clips, faces, golden vectors), which a public clone does not have"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def features():
    """EfficientNet-lite0 with its weights."""
    from vidinv.metrics import efficientnet  # torch: not for every test

    if reason := efficientnet.absent():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return efficientnet.feature_network()
