"""The connection to a Ray cluster, or a Ray on this machine for the time of a run."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import torch

from pipelines.batch.pools import Node
from vidinv.errors import MissingDependencyError, UsageError, VidinvError

_OBJECT_STORE_BYTES = 100 * 2**20  # rows only
_CONNECT_SECONDS = 10.0
_HINT = "is it of this Ray version, and does it want a token (RAY_AUTH_MODE=token)?"


def connect(address: str | None, *, dashboard: bool) -> str:
    """Join the cluster at ``address``, or start Ray on this machine.

    Returns:
        ``host:port`` of the dashboard; empty when there is none.

    Raises:
        MissingDependencyError: no ``ray[default]`` for the dashboard.
        UsageError: an address that is none.
        VidinvError: there is no cluster, or one of another version.
    """
    ray = import_ray()
    local: dict[str, Any] = {}
    if dashboard:
        check_dashboard()
    if address is not None:
        _check_address(address)
    else:
        local = {"object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": dashboard}
    try:
        with _interrupts_later():
            context = ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **local,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
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
def _interrupts_later() -> Iterator[None]:
    """Ctrl-C inside ``ray.init`` crashes the process (Ray 2.60): the first one waits for its end.

    Ray also puts a handler of its own in the place of the one for SIGTERM, which leaves by
    ``sys.exit``: both signals interrupt a run in the same way.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    came: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    if callable(handlers[signal.SIGINT]):  # not where it is ignored, as in the background
        signal.signal(signal.SIGINT, wait)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
    if came:
        raise KeyboardInterrupt


def import_ray() -> Any:
    """Ray itself; MissingDependencyError says how to get it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise MissingDependencyError("batch needs Ray: pip install 'vidinv[batch]'") from None


def check_dashboard() -> None:
    """MissingDependencyError where Ray is installed without its dashboard."""
    try:
        importlib.import_module("ray.dashboard.optional_deps")
    except ImportError:
        raise MissingDependencyError("--dashboard needs it: pip install 'ray[default]'") from None
