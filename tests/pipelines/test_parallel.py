"""Prefetch keeps order, hands errors over, and stops when its consumer leaves."""

from __future__ import annotations

import threading
import time

import pytest

from pipelines.parallel import Prefetch


def test_items_come_in_order():
    with Prefetch(iter(range(50)), depth=3) as items:
        assert list(items) == list(range(50))


def test_the_producer_is_never_more_than_depth_ahead():
    produced = []

    def source():
        for number in range(20):
            produced.append(number)
            yield number

    with Prefetch(source(), depth=2) as items:
        next(items)
        time.sleep(0.3)
        # One taken, two waiting, one in hand.
        assert len(produced) == 4


def test_an_error_arrives_where_the_item_would_have_been():
    def source():
        yield 1
        raise OSError("disk")

    with Prefetch(source()) as items:
        assert next(items) == 1
        with pytest.raises(OSError, match="disk"):
            next(items)
        with pytest.raises(StopIteration):
            next(items)


def test_leaving_early_closes_the_source_and_ends_the_thread():
    closed = threading.Event()

    def source():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = threading.active_count()
    with Prefetch(source()) as items:
        next(items)
    assert closed.is_set()
    assert threading.active_count() == before


def test_chained_stages_end_when_the_last_consumer_leaves():
    before = threading.active_count()
    with Prefetch(iter(range(1000))) as first, Prefetch(x + 1 for x in first) as second:
        assert next(second) == 1
    assert threading.active_count() == before
