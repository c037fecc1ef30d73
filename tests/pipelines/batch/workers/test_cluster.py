"""The connection to Ray: signals meanwhile, command lines that are not UTF-8, what is said."""

from __future__ import annotations

import os
import re
import signal
import socket
from types import SimpleNamespace

import pytest

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


def ray_that(action):
    """As much of Ray as ``connect`` uses; ``action`` is what happens inside ``ray.init``."""

    def init(**options):
        action()
        return SimpleNamespace(dashboard_url="")

    return SimpleNamespace(init=init)


@pytest.fixture
def address():
    """Of a port of this machine where somebody answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_ray_on_this_machine_is_started_whole_before_it_is_interrupted(handlers, number):
    utils = pytest.importorskip("ray._private.utils", reason="needs Ray")
    reached = []

    def action():
        utils.set_sigterm_handler(lambda *_: reached.append("Ray's own handler"))
        for _ in range(2):  # an impatient second one
            signal.raise_signal(number)
        reached.append("end")

    with pytest.raises(KeyboardInterrupt):
        connect(ray_that(action), None, dashboard=False)
    assert reached == ["end"]
    assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_cluster_that_is_slow_to_answer_is_left_at_the_second_interrupt(handlers, address):
    times = []

    def action():
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
            times.append(1)

    with pytest.raises(KeyboardInterrupt):
        connect(ray_that(action), address, dashboard=False)
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


def test_a_command_line_that_is_not_utf8_can_name_the_job(monkeypatch):
    utils = pytest.importorskip("ray._private.utils", reason="needs Ray")
    monkeypatch.setattr(
        utils, "get_entrypoint_name", lambda: f"vidinv batch {os.fsdecode(bytes([118, 255]))}"
    )
    names = []
    ray = ray_that(lambda: names.append(utils.get_entrypoint_name()))
    connect(ray, None, dashboard=False)
    assert names == ["vidinv batch v\\udcff"]
    assert not utils.get_entrypoint_name().isascii()  # it was Ray's own again


@pytest.mark.parametrize(
    ("joins", "message"),
    [
        (False, "^cannot start Ray on this machine: no ports$"),
        (True, "^cannot reach Ray at {address}: no ports; .*does it want a token"),
    ],
)
def test_what_ray_refuses_is_said_in_terms_of_what_was_asked(address, joins, message):
    def action():
        raise ConnectionError("no\nports")

    with pytest.raises(VidinvError, match=message.format(address=re.escape(address))):
        connect(ray_that(action), address if joins else None, dashboard=False)
