"""Shared fixtures: the data beside the repository, files of the extra ``train``.

Also which tests stay together where several processes run them (``make test``).
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import pytest

# Signing costs every output a child process: tests of it turn it on.
os.environ.setdefault("VIDINV_CREDENTIALS", "off")
# As ``make test`` has it; a process forked from one whose threads have worked hangs in their pool.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@cache
def is_on_ray(file: Path) -> bool:
    """Whether tests of a file use the one cluster."""
    return "local_ray" in file.read_text()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on Ray come first: nothing else that stays together takes so long."""
    items.sort(key=lambda item: not is_on_ray(item.path))


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """A file stays whole for its fixtures' sake; the files of tests on Ray share a process."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "on Ray" if is_on_ray(config.rootpath / file) else file

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """What a test draws does not depend on the tests that the same process ran before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


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


@pytest.fixture(scope="session")
def local_ray():
    """One Ray on this machine for all tests."""
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
