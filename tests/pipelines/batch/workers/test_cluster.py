"""The connection to Ray: signals meanwhile, command lines that are not UTF-8, what is said."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest

from pipelines.batch.workers import cluster
from pipelines.batch.workers.cluster import connect
from vidinv.errors import VidinvError
from vidinv.interrupts import ignore_interrupts, without_interrupts


@pytest.fixture
def handlers():
    """Those of a program that is ended in order, as ``vidinv batch``."""
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, signal.default_int_handler) for kind in kinds}
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


@pytest.fixture
def init(monkeypatch):
    """What happens inside ``ray.init``."""

    def replace(action):
        def ray_init(**options):
            action()
            return SimpleNamespace(dashboard_url="")

        monkeypatch.setattr(cluster, "import_ray", lambda: SimpleNamespace(init=ray_init))
        monkeypatch.setattr(cluster, "_check_address", lambda address: None)

    return replace


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_ray_on_this_machine_is_started_whole_before_it_is_interrupted(handlers, init, number):
    utils = pytest.importorskip("ray._private.utils", reason="needs Ray")
    reached = []

    def action():
        utils.set_sigterm_handler(lambda *_: reached.append("Ray's own handler"))
        for _ in range(2):  # an impatient second one
            signal.raise_signal(number)
        reached.append("end")

    init(action)
    with pytest.raises(KeyboardInterrupt):
        connect(None, dashboard=False)
    assert reached == ["end"]
    assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_cluster_that_is_slow_to_answer_is_left_at_the_second_interrupt(handlers, init):
    times = []

    def action():
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
            times.append(1)

    init(action)
    with pytest.raises(KeyboardInterrupt):
        connect("10.0.0.1:6379", dashboard=False)
    assert len(times) == 1


def test_what_is_being_ended_is_ended_whole(handlers):
    with without_interrupts():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_a_process_that_ends_already_is_not_interrupted(handlers):
    ignore_interrupts()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)


def test_signals_that_are_ignored_stay_so(handlers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with without_interrupts():
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_command_line_that_is_not_utf8_can_name_the_job(init, monkeypatch):
    utils = pytest.importorskip("ray._private.utils", reason="needs Ray")
    monkeypatch.setattr(
        utils, "get_entrypoint_name", lambda: f"vidinv batch {os.fsdecode(bytes([118, 255]))}"
    )
    names = []
    init(lambda: names.append(utils.get_entrypoint_name()))
    connect(None, dashboard=False)
    assert names == ["vidinv batch v\\udcff"]
    assert not utils.get_entrypoint_name().isascii()  # it was Ray's own again


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "^cannot start Ray on this machine: no ports$"),
        ("10.0.0.1:6379", "^cannot reach Ray at 10.0.0.1:6379: no ports; .*does it want a token"),
    ],
)
def test_what_ray_refuses_is_said_in_terms_of_what_was_asked(init, address, message):
    def action():
        raise ConnectionError("no\nports")

    init(action)
    with pytest.raises(VidinvError, match=message):
        connect(address, dashboard=False)
