"""Twelve real clips, four of them bad, against the good ones alone: what is done, and how fast.

python -m tests.pipelines.batch.acceptance ../shared/clips FOLDER  (minutes; prints JSON)

Truncated, hanging, crashing and faceless; the decoder that hangs is a program that does nothing,
and is given the usual 20 s. The faceless clip is no failure: it is copied, with a warning.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import av

from pipelines.batch.driver import run
from pipelines.batch.request.batch_request import BatchRequest
from pipelines.batch.request.jobs import Job
from pipelines.batch.request.result import BatchResult
from pipelines.batch.stages.render import RenderTask
from pipelines.batch.stages.runner import StageRunner
from pipelines.batch.stages.tasks import Completed, Failure, StageTask
from vidinv.video import VideoReader
from vidinv.video.reader import DECODE_WORKER

GOOD = (  # 812 frames, 288 to 1364 px high
    "grid_bbaf2n.mpg",
    "grid_lbax4n.mpg",
    "grid_pwij3p.mpg",
    "greenscreen_512.mp4",
    "sign_smallface.mkv",
    "fullbody_720x1080.mp4",
    "outdoor_720x1364.mp4",
    "talk_hand_512.mp4",
)


class AcceptanceRunner(StageRunner):
    """As ``StageRunner``, but for the clips named hanging and crashing."""

    def run(self, task: StageTask) -> Completed | Failure:
        if isinstance(task, RenderTask) and Path(task.job.input).stem == "crashing":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(task)

    def open(self, job: Job, *, worker: str = DECODE_WORKER, **part: Any) -> VideoReader:
        hangs = Path(job.input).stem == "hanging"
        worker = "tests.video.bad_workers" if hangs else worker
        return super().open(job, worker=worker, **part)


def main(clips: str, folder: str) -> None:
    """Both runs, and their figures as JSON."""
    print(json.dumps(compare(Path(clips), Path(folder))))


def compare(clips: Path, folder: Path) -> dict[str, Any]:
    """Figures of a run of the good clips, and of one with the bad clips among them."""
    good, mixed = folder / "good", folder / "mixed"
    for inputs in (good, mixed):
        inputs.mkdir(parents=True)
        for name in GOOD:
            shutil.copy(clips / name, inputs)
    data = (clips / "expression_512.mp4").read_bytes()
    (mixed / "truncated.mp4").write_bytes(data[: len(data) // 2])
    shutil.copy(clips / "grid_bbaf2n.mpg", mixed / "hanging.mpg")
    shutil.copy(clips / "greenscreen_512.mp4", mixed / "crashing.mp4")
    shutil.copy(clips / "noface_bottle.mp4", mixed / "faceless.mp4")
    alone, among = batch(good, folder / "out_good"), batch(mixed, folder / "out_mixed")
    done = {row["output"]: row for row in among.rows if row["status"] == "done"}
    keys = ("output", "stage", "segment", "cause", "attempts")
    return {
        "good_alone": alone.as_dict(),
        "with_bad": among.as_dict(),
        "ratio": round(among.seconds / alone.seconds, 3),
        "done": sorted(done),
        "identical": sorted(name for name in done if same(folder, name)),
        "faceless_warnings": done.get("faceless.mp4", {}).get("warnings"),
        "quarantined": [{key: row[key] for key in keys} for row in among.quarantined],
    }


def batch(inputs: Path, output: Path) -> BatchResult:
    """One run with the default pack and a Ray of its own."""
    return run(
        BatchRequest(
            inputs=[str(inputs)],
            output=output,
            attributes={"smile": ((0.0, 1.0),)},
            runner_class=f"{AcceptanceRunner.__module__}:{AcceptanceRunner.__name__}",
            quiet=False,
        )
    )


def same(folder: Path, name: str) -> bool:
    """The output of the good clips alone has the same packets at the same times."""
    one, other = folder / "out_good" / name, folder / "out_mixed" / name
    return one.is_file() and packets(one) == packets(other)


def packets(path: Path) -> list[tuple[int, int | None, int | None, bytes]]:
    """Of all streams; a Matroska file itself has random identifiers."""
    with av.open(path) as container:
        return [
            (packet.stream.index, packet.pts, packet.dts, bytes(packet))
            for packet in container.demux()
        ]


if __name__ == "__main__":
    from tests.pipelines.batch import acceptance

    acceptance.main(*sys.argv[1:])
