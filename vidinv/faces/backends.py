"""The face finders by name, as ``--landmarks`` and the Python interface name them."""

from __future__ import annotations

from collections.abc import Callable

from vidinv.errors import UnknownNameError
from vidinv.faces.dlib_backend import dlib_backend
from vidinv.faces.fan_backend import fan_backend, require_weights
from vidinv.faces.protocols import Backend

BACKENDS: dict[str, Callable[..., Backend]] = {"dlib": dlib_backend, "fan": fan_backend}
DEFAULT_LANDMARKS = "dlib"


def check_landmarks(name: str, *, is_here: bool = True) -> None:
    """Before any work.

    Args:
        is_here: faces are found on this machine.

    Raises:
        UnknownNameError: lists those that there are.
        MissingDependencyError: package or weights are not here.
    """
    if name not in BACKENDS:
        raise UnknownNameError("landmarks", name, BACKENDS)
    if name == "fan" and is_here:
        require_weights()


def find_backend(name: str, *, device: str) -> Backend:
    """Detector, landmarks and recognition: all of dlib's, or SFD and FAN with dlib's recognition.

    Raises:
        UnknownNameError: lists those that there are.
        MissingDependencyError: package or weights are not there.
    """
    check_landmarks(name)
    return BACKENDS[name](device=device)
