"""Shared fixtures: where the data beside the repository lives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
