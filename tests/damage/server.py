"""A process that has imported everything, and runs each command of ``vidinv`` in a fork of itself.

A case costs what its file costs, not seconds of imports; one that dies of a signal or hangs takes
nothing else with it. JSON lines in (``arguments``, ``stderr``, ``output``, ``timeout_seconds``),
JSON lines out (``code``, negative for a signal, None for a hang; ``seconds``).
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve until standard input closes."""
    import pipelines.edit  # noqa: F401 - torch, dlib, OpenCV: what a run imports
    from vidinv.faces import dlib_backend

    backend = dlib_backend()
    _ = backend.detector, backend.landmarks
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(request: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(request)
    pidfd = os.pidfd_open(pid)
    is_done, _, _ = select.select([pidfd], [], [], request["timeout_seconds"])
    os.close(pidfd)
    if not is_done:
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status) if is_done else None
    return {"code": code, "seconds": round(time.monotonic() - started, 2)}


def _child(request: dict[str, Any]) -> None:
    os.setsid()
    log = os.open(request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd, target in ((nowhere, 0), (nowhere, 1), (log, 2)):
        os.dup2(fd, target)
    code = 99
    try:
        code = _command(request)
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def _command(request: dict[str, Any]) -> int:
    """The exit code; 98 for an output that cannot be read from its first frame to its last."""
    from vidinv.cli import main as run
    from vidinv.video import is_image_path, open_reader, read_image

    code = run(request["arguments"])
    output = Path(request["output"])
    if code == 0 and is_image_path(output):
        read_image(output)
    elif code == 0:
        with open_reader(output) as reader:
            return 0 if sum(1 for _ in reader) else 98
    return code


if __name__ == "__main__":
    main()
