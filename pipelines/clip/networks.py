"""What a run computes with, loaded at the first use and shared by all its clips."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

import torch

from pipelines.process import set_up_process
from vidinv.editing.directions import Directions
from vidinv.errors import MissingDependencyError
from vidinv.faces import DEFAULT_LANDMARKS, Backend, find_backend
from vidinv.inversion import Inverter
from vidinv.occlusion import OccluderFinder
from vidinv.packs import Pack
from vidinv.types import EditSpec


class Networks:
    """A pack, and one of its methods on a device.

    Args:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        on_step: ``Inverter.on_step`` of the method.
        landmarks: who finds faces: ``"dlib"``, or ``"fan"`` on the device
            (``vidinv.faces.find_backend``); kept as an attribute, as is ``device``.
        backend: detector, landmarks and recognition in their place.
    """

    def __init__(
        self,
        pack: Pack,
        method: str = "fse",
        *,
        device: str = "cpu",
        on_step: Callable[[], None] | None = None,
        landmarks: str = DEFAULT_LANDMARKS,
        backend: Backend | None = None,
    ) -> None:
        self.pack, self.method, self.device, self._on_step = pack, method, device, on_step
        self.landmarks, self._backend = landmarks, backend

    def load(self, spec: EditSpec) -> Networks:
        """Load everything that an edit needs now, so that no clip waits for it.

        Raises:
            PackError: something of it is damaged.
        """
        set_up_process()
        _ = self.inverter, self.directions, self.backend
        _ = self.occluders if spec.keeps_occluders else None
        return self

    @cached_property
    def inverter(self) -> Inverter:
        """The method, on the device."""
        inverter = self.pack.inverter(self.method, device=choose_device(self.device))
        inverter.on_step = self._on_step
        return inverter

    @cached_property
    def occluders(self) -> OccluderFinder | None:
        """Finds what is in front of faces, where the pack has a parsing network; on the device."""
        if not self.pack.has_network("parsing"):
            return None
        device = choose_device(self.device)
        return OccluderFinder(cast("Any", self.pack.network("parsing").to(device)), device)

    @cached_property
    def directions(self) -> Directions:
        """The pack's attributes."""
        return self.pack.directions()

    @cached_property
    def backend(self) -> Backend:
        """Detector, landmarks and recognition."""
        device = str(choose_device(self.device))
        return self._backend or find_backend(self.landmarks, device=device)

    @cached_property
    def mean_embedding(self) -> torch.Tensor | None:
        """Of the pack's training faces."""
        return self.pack.mean_embedding()


def choose_device(name: str) -> torch.device:
    """The device of a name; MissingDependencyError for a GPU that is not there."""
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name == "cuda" and not available:
        raise MissingDependencyError("no CUDA device is available; use --device cpu")
    return torch.device(name)
