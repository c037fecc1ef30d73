"""Inputs of all kinds in one run on Ray: none hangs it, none is left out."""

from __future__ import annotations

import json
import os
import shutil

import pytest

import vidinv
from pipelines.batch.driver import run
from pipelines.batch.request.batch_request import BatchRequest
from tests.pipelines.batch.inputs.web import serving
from tests.video.clips import images_of
from vidinv.files import printable
from vidinv.video import write_image

AGE = {"age": ((0.0, 1.5),)}


def test_odd_remote_and_still_inputs_end_as_rows(local_ray, face_clip, tiny_pack, tmp_path):
    pytest.importorskip("aiohttp", reason="fsspec reads http with it: pip install aiohttp")
    local, web, output = tmp_path / "in", tmp_path / "web", tmp_path / "out"
    for folder in (local, web):
        folder.mkdir()
    shutil.copy(face_clip, web / "clip.mp4")
    name = "-'\"\n ünï" + os.fsdecode(b"\xff") + ".png"
    write_image(local / name, images_of(face_clip)[0])
    fifo = f"fifo{name.removesuffix('.png')}.mp4"
    os.mkfifo(local / fifo)
    (local / "link.mp4").symlink_to("gone.mp4")
    with serving(web) as server:
        (local / "list.jsonl").write_text(
            "\n".join(
                json.dumps({"input": f"{server.url.replace('//', '//me:secret@')}{name}"})
                for name in ("clip.mp4", "gone.mp4")
            )
        )
        result = run(
            BatchRequest(
                [str(local), str(local / "list.jsonl")],
                output,
                AGE,
                pack=tiny_pack,
                num_workers=2,
            )
        )
        clip = f"{server.url}clip.mp4"
    lines = (output / "manifest.jsonl").read_text().splitlines()
    rows = {row["output"]: row for row in map(json.loads, lines)}
    assert {key: (row["status"], row["stage"]) for key, row in rows.items()} == {
        "clip.mp4": ("done", None),
        printable(name): ("done", None),  # as UTF-8 holds it, for strict readers of the manifest
        printable(fifo): ("quarantined", "analyse"),
        "link.mp4": ("quarantined", "analyse"),
        "gone.mp4": ("quarantined", "fetch"),
    }
    assert len(result.quarantined) == 3
    assert rows["clip.mp4"]["input"] == clip
    vidinv.edit(local / name, tmp_path / "still.png", attributes=AGE, pack=tiny_pack)
    assert (output / name).read_bytes() == (tmp_path / "still.png").read_bytes()
    log = (output / ".vidinv-batch" / "batch.log").read_text()
    assert "ünï\\udcff.mp4: a FIFO, not a file" in log
    assert "secret" not in log + "".join(lines)
