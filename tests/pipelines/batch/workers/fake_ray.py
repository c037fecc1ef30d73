"""As much of Ray as the workers use, in this process, with a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pipelines.batch.workers.actor import WorkerAddress, WorkerHeartbeat


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class ActorUnavailableError(RayActorError):
    pass


class OutOfMemoryError(RayError):
    pass


# What Ray 2.60 says, shortened.
DIED_AT_START = RayActorError(
    "The actor died unexpectedly before finishing this task.\n\tclass_name: StageActor\n"
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR ...\n"
    "The actor never ran - it was cancelled before it started running."
)
DIED = RayActorError("The actor is dead because its worker process has died.")


@dataclass(eq=False)
class Ref:
    """A call; its value is asked of the actor when somebody looks."""

    actor: FakeActor
    name: str

    @property
    def value(self) -> Any:
        return self.actor.answer(self.name)


@dataclass(eq=False)
class FakeActor:
    """``state``: starting, up, frozen, or the error that its calls give."""

    pid: int
    state: Any = "starting"
    frames: int = 0
    tasks: list[Any] = field(default_factory=list)
    killed: bool = False

    def answer(self, name: str) -> Any:
        if isinstance(self.state, Exception):
            return self.state
        if self.state != "up" or name == "run":
            return None
        return WorkerAddress("node", self.pid, "cpu") if name == "address" else self.heartbeat_now

    @property
    def heartbeat_now(self) -> WorkerHeartbeat:
        return WorkerHeartbeat(self.frames, 0, None, 100.0)

    def __getattr__(self, name: str) -> Any:
        if name not in ("address", "run", "heartbeat"):
            raise AttributeError(name)

        def remote(*arguments: Any) -> Ref:
            self.tasks += arguments
            return Ref(self, name)

        return SimpleNamespace(remote=remote)


class FakeRay:
    """``now`` is its clock's, in seconds; actors begin in ``new_state``."""

    __version__ = "fake"
    exceptions = SimpleNamespace(
        RayError=RayError,
        RayActorError=RayActorError,
        ActorUnavailableError=ActorUnavailableError,
        OutOfMemoryError=OutOfMemoryError,
    )

    def __init__(self) -> None:
        self.now = 1000.0
        self.new_state: Any = "starting"
        self.actors: list[FakeActor] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def is_initialized(self) -> bool:
        return True

    def nodes(self) -> list[dict[str, Any]]:
        resources = {"CPU": 8.0}
        node = {"NodeID": "node", "NodeManagerAddress": "10.0.0.1", "Resources": resources}
        return [{**node, "Alive": True}]

    def available_resources(self) -> dict[str, float]:
        return {}

    def remote(self, kind: type) -> Any:
        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=self._new_actor))

    def _new_actor(self, *arguments: Any) -> FakeActor:
        self.actors.append(FakeActor(len(self.actors) + 1, self.new_state))
        return self.actors[-1]

    def wait(self, refs: list[Ref], *, timeout: float) -> tuple[list[Ref], list[Ref]]:
        ready = [ref for ref in refs if ref.value is not None]
        if not ready:
            self.sleep(timeout)
        return ready, [ref for ref in refs if ref not in ready]

    def get(self, ref: Ref) -> Any:
        if isinstance(ref.value, Exception):
            raise ref.value
        return ref.value

    def kill(self, actor: FakeActor) -> None:
        actor.killed = True
