"""The one interface that every inversion method implements, and what a method is made from.

Three verbs over aligned faces ``[N, 3, R, R]`` in [-1, 1]: ``fit`` once per person, ``encode``
and ``render`` per chunk of consecutive frames. ``recompute`` gives back what is too large to keep.

An inverter serves one thread. The generator that it is given belongs to the pack and to other
inverters as well: nothing in it is changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

from torch import Tensor

from vidinv.errors import UsageError
from vidinv.inversion.parts import MethodParts
from vidinv.inversion.state import TrackState
from vidinv.types import EditedLatents, Inversion, RenderMode


@dataclass(frozen=True)
class Code:
    """A named code of a method's inversions, ``[N, ...]`` per batch.

    Attributes:
        meaning: in a few words, for people.
        stored: how ``--latents`` keeps it; None: it is not stored, ``recompute`` makes it again.
    """

    meaning: str
    stored: Literal["float32", "float16"] | None = "float32"


class Inverter(ABC):
    """A method bound to the networks of one pack on one device.

    What the class says holds for every pack, and is asked before any network is loaded.

    Attributes:
        name: on the command line, e.g. ``"fse"``.
        needs_weights: it works with the packs that have an entry for it; else with every pack.
        draws_random_numbers: the seed of a run changes its inversions.
        sample_frames: how many frames of a track ``fit`` wants to see; 0: it has nothing to learn.
            An inverter may want fewer than its class says, by what the pack says.
        chain_chunks: an encoding may start from the result of the chunk before it, in runs of so
            many chunks counted from the start of the shot: the result is the same wherever a clip
            is cut into segments. 1: every chunk stands alone.
        entry_options, config_options: fields of its entry in a pack, and of the entry's ``config``,
            that a user may set for one run (``Pack.with_options``).
        unfitted_options: options of its ``config`` with which a method that is fitted to tracks
            does without; None: it cannot, or has nothing to fit.
        codes: what its inversions hold besides the latents.
        on_step: for ``encode`` to call after each step of a search, which may take minutes a chunk,
            so that a batch sees it go on; in the thread of ``encode``. A method that does not
            search leaves it alone.
    """

    name: ClassVar[str]
    needs_weights: ClassVar[bool] = True
    draws_random_numbers: ClassVar[bool] = False
    entry_options: ClassVar[tuple[str, ...]] = ()
    config_options: ClassVar[tuple[str, ...]] = ()
    sample_frames: int = 0
    chain_chunks: ClassVar[int] = 1
    unfitted_options: ClassVar[Mapping[str, Any] | None] = None
    codes: Mapping[str, Code] = MappingProxyType({})
    on_step: Callable[[], None] | None = None

    @classmethod
    @abstractmethod
    def build(cls, parts: MethodParts) -> Self:
        """The method with what a pack has for it."""

    @classmethod
    def local_choices(cls, config: Mapping[str, Any], resolution: int) -> Mapping[str, str]:
        """What it chooses by what this machine has, and that decides its inversions.

        A run says it once; latents that were saved with another choice are not used.

        Args:
            config: what a pack says of the method, as it stands in pack.json.
            resolution: R of the pack.

        Returns:
            What is chosen -> the choice, in a few words for people.
        """
        return {}

    @classmethod
    def first_phase(cls, entries: Mapping[str, Any]) -> str | None:
        """Name of the method whose inversions it starts from; None: it stands alone.

        Args:
            entries: of the pack's methods, as they stand in pack.json.
        """
        return None

    def fit(
        self, sample_N3RR: Tensor, *, progress: Callable[[float], None] = lambda share: None
    ) -> TrackState:
        """What it learns of one person; asked for only where ``sample_frames`` is not 0.

        Args:
            sample_N3RR: the faces of at most ``sample_frames`` frames, evenly spread, in order.
            progress: told the share that is done, 0..1.
        """
        raise NotImplementedError(f"{self.name} has nothing to fit")

    def codes_for(self, mode: RenderMode) -> Set[str]:
        """Names of the codes that rendering in this mode needs."""
        return self.codes.keys()

    @abstractmethod
    def encode(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
        previous: Inversion | None = None,
    ) -> Inversion:
        """Invert consecutive faces of a track, with the codes of ``mode``.

        The latents do not depend on the mode: what one run saved, another goes on with.

        Args:
            previous: the inversion of the chunk before, within a run of ``chain_chunks``.
        """

    def encode_latents(
        self,
        faces_N3RR: Tensor,
        state: TrackState | None = None,
        *,
        previous: Inversion | None = None,
    ) -> Tensor:
        """The latents of ``encode`` ``[N, L, D]`` alone, for methods that start from them."""
        return self.encode(faces_N3RR, state, previous=previous).latents_NLD

    def recompute(
        self,
        faces_N3RR: Tensor,
        inversion: Inversion,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
    ) -> Inversion:
        """A saved inversion with the codes of ``mode`` that are not stored; its latents stay."""
        return inversion

    @abstractmethod
    def render(
        self,
        inversion: Inversion,
        edited: EditedLatents,
        state: TrackState | None = None,
        *,
        mode: RenderMode = RenderMode.INVERT,
    ) -> Tensor:
        """Pictures ``[N, 3, R, R]`` of the inverted faces with these latents.

        Inversions come from ``encode`` or from disk: their tensors may lie on any device.
        """


def own_state(inverter: Inverter, state: TrackState | None) -> TrackState:
    """The state of a method that cannot do without; UsageError where it is not there or another's.

    For the first line of ``encode`` and ``render``.
    """
    if state is None or state.method != inverter.name:
        found = "none" if state is None else f"one of {state.method}"
        raise UsageError(
            f"{inverter.name} needs the state that it fitted to the person, got {found}"
        )
    return state
