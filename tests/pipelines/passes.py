"""Progress that a test gives to a run: it sees the passes, and may refuse or interrupt one."""

from __future__ import annotations

import signal

from pipelines.meter import Progress


class Passes(Progress):
    """Keeps what the passes give, by label.

    Args:
        refused: labels of passes that must not begin.
        interrupted: label of a pass that is interrupted after its ``after``-th item.
        signalled: by this signal to the process, where one is given.
    """

    def __init__(self, *, refused=(), interrupted=None, after=0, signalled=None):
        super().__init__()
        self.seen = {}
        self._refused, self._interrupted, self._after = refused, interrupted, after
        self._signalled = signalled

    def track(self, items, *, label, total):
        assert label not in self._refused, f"{label}: it must not come to that"
        return self._passed(items, label)

    def _passed(self, items, label):
        seen = self.seen[label] = []
        for item in items:
            if label == self._interrupted and len(seen) == self._after:
                if self._signalled is None:
                    raise KeyboardInterrupt
                signal.raise_signal(self._signalled)
            seen.append(item)
            yield item
