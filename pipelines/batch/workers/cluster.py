"""The connection to a Ray cluster, or a Ray on this machine for the time of a run."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import torch

from pipelines.batch.workers.pools import Node
from vidinv.errors import MissingDependencyError, UsageError, VidinvError
from vidinv.files import printable
from vidinv.interrupts import interrupts_later

_OBJECT_STORE_BYTES = 100 * 2**20  # rows only
_CONNECT_SECONDS = 10.0
_HINT = "is it of this Ray version, and does it want a token (RAY_AUTH_MODE=token)?"


def connect(ray: Any, address: str | None, *, dashboard: bool) -> str:
    """Join the cluster at ``address``, or start Ray on this machine.

    Args:
        ray: the module, as ``import_ray`` gives it.

    Returns:
        ``host:port`` of the dashboard; empty when there is none.

    Raises:
        MissingDependencyError: no ``ray[default]`` for the dashboard.
        UsageError: an address that is none.
        VidinvError: there is no cluster, or one of another version.
    """
    local: dict[str, Any] = {}
    if dashboard:
        check_dashboard()
    if address is not None:
        _check_address(address)
    else:
        local = {"object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": dashboard}
    try:
        # Ctrl-C inside of it would crash the process (Ray 2.60), and leave what it has started. A
        # cluster may be slow to answer, and nothing is left behind there.
        with interrupts_later(all_of_them=address is None), _ray_as_we_need_it():
            context = ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **local,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if address is None:
            raise VidinvError(f"cannot start Ray on this machine: {reason}") from None
        raise VidinvError(f"cannot reach Ray at {address}: {reason}; {_HINT}") from None
    return context.dashboard_url or ""


def local_nodes() -> list[Node]:
    """What a Ray on this machine has, without starting it; where one runs already, what that has.

    Raises:
        MissingDependencyError: there is no Ray.
    """
    ray = import_ray()
    if ray.is_initialized():
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]
    try:  # not public, but only Ray knows how it counts in containers
        cpus = importlib.import_module("ray._private.utils").get_num_cpus()
    except (ImportError, AttributeError):
        cpus = os.cpu_count() or 1
    return [{"CPU": float(cpus), "GPU": float(torch.cuda.device_count())}]


def _check_address(address: str) -> None:
    """Ray itself waits for minutes where nobody answers."""
    host, _, port = address.rpartition(":")
    if address == "auto":
        return
    if not host or "/" in address or not port.isdigit():
        raise UsageError(f"--address {address}: give auto, or HOST:PORT as ray start prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise VidinvError(f"cannot reach Ray at {address}: {error}") from None


@contextlib.contextmanager
def _ray_as_we_need_it() -> Iterator[None]:
    """Two habits of ``ray.init`` that no option changes, as of Ray 2.60.

    It takes the handler of SIGTERM away, for one that leaves by ``sys.exit`` in its midst; and it
    cannot encode a command line that is not UTF-8, which it keeps as the name of the job.
    """
    try:  # not public: without it, it is as Ray has it
        ray_utils: Any = importlib.import_module("ray._private.utils")
    except ImportError:
        ray_utils = None
    name_of_job = getattr(ray_utils, "get_entrypoint_name", lambda: "vidinv")
    ours = {
        "set_sigterm_handler": lambda handler: None,
        "get_entrypoint_name": lambda: printable(name_of_job()),
    }
    theirs = {name: getattr(ray_utils, name) for name in ours if hasattr(ray_utils, name)}
    try:
        for name in theirs:
            setattr(ray_utils, name, ours[name])
        yield
    finally:
        for name, function in theirs.items():
            setattr(ray_utils, name, function)


def import_ray() -> Any:
    """Ray itself; MissingDependencyError says how to get it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise MissingDependencyError(
            "batch needs Ray: pip install -e . (in the checkout of vidinv)"
        ) from None


def check_dashboard() -> None:
    """MissingDependencyError where Ray is installed without its dashboard."""
    try:
        importlib.import_module("ray.dashboard.optional_deps")
    except ImportError:
        command = "pip install -c constraints.txt 'ray[default]' (in the checkout of vidinv)"
        raise MissingDependencyError(f"--dashboard needs it: {command}") from None
