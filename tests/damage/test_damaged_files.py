"""A thousand damaged files: no crash, no hang, nothing half-written, one line of error each.

Slow, and in parts: ``pytest tests/damage -m slow -k "part3 or part4"``. Which file is harmed how
depends on the number of the case alone. ``VIDINV_DAMAGED=FOLDER`` keeps the files of cases that
fail, and a line of every case in ``FOLDER/cases.jsonl``.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import pytest

from pipelines.demo import make_clip
from tests.conftest import REPOSITORY
from tests.damage.harm import HARMS
from tests.damage.sources import NUM_FRAMES, RATE, SIDE, make_sources
from tests.packs.tiny import write_tiny_pack
from tests.video.clips import images_of
from vidinv.packs import load_pack
from vidinv.video import is_image_path
from vidinv.video.codecs import FORMATS

NUM_PARTS, CASES_A_PART = 40, 25
HANG_SECONDS = 30


@dataclass(frozen=True)
class Kit:
    """What all cases share."""

    sources: tuple[Path, ...]
    pack: Path
    server: subprocess.Popen[str]

    def ask(self, request: dict) -> dict:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Iterator[Kit]:
    folder = tmp_path_factory.mktemp("sources")
    clip = make_clip(load_pack(), folder / "face.mkv", seconds=NUM_FRAMES / RATE, size_px=256)
    faces = [cv2.resize(image, (SIDE, SIDE)) for image in images_of(clip)]
    clip.unlink()
    shared = REPOSITORY.parent / "shared"
    sources = make_sources(folder, faces, shared=shared if shared.is_dir() else None)
    pack = write_tiny_pack(tmp_path_factory.mktemp("packs") / "tiny")
    program = [sys.executable, "-m", "tests.damage.server"]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as server:
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["ready"]
        yield Kit(tuple(sources), pack, server)
        assert server.stdin is not None
        server.stdin.close()


@pytest.mark.slow
@pytest.mark.timeout(CASES_A_PART * HANG_SECONDS)
@pytest.mark.parametrize("part", range(NUM_PARTS), ids=lambda part: f"part{part}")
def test_damaged_files_end_in_a_line_and_nothing_else(kit, tmp_path, part):
    numbers = range(part * CASES_A_PART, (part + 1) * CASES_A_PART)
    faults = [fault for number in numbers if (fault := run_case(kit, tmp_path, number))]
    assert not faults, "\n".join(faults)


def test_harm_depends_on_the_number_alone(tmp_path):
    data = random.Random(0).randbytes(5000)
    for number in range(20):
        first, second = (harmed(data, number) for _ in range(2))
        assert first == second
        assert first != data


def harmed(data: bytes, number: int) -> bytes:
    """Case ``number``'s damage."""
    return HARMS[number % len(HARMS)](data, random.Random(number))


def run_case(kit: Kit, folder: Path, number: int) -> str | None:
    """What is wrong with how case ``number`` ends, as a line; None where nothing is."""
    # Not the same order as the harms': every source meets every harm.
    source = kit.sources[(number + number // len(HARMS)) % len(kit.sources)]
    here = folder / f"{number}"
    here.mkdir()
    path, output = here / source.name, here / f"out{output_suffix(source)}"
    path.write_bytes(harmed(source.read_bytes(), number))
    log = folder / f"{number}.log"
    answer = kit.ask(
        {
            "arguments": [
                *("edit", str(path), "-o", str(output), "--attr", "smile"),
                *("--pack", str(kit.pack), "--quiet"),
            ],
            "stderr": str(log),
            "output": str(output),
            "timeout_seconds": HANG_SECONDS,
        }
    )
    said = log.read_text(errors="replace")
    left = sorted(set(os.listdir(here)) - {path.name})
    fault = fault_of(answer["code"], said, left, output.name)
    keep(path, answer, said, fault, number)
    name = f"case {number} ({source.name}, {HARMS[number % len(HARMS)].__name__})"
    return None if fault is None else f"{name}: {fault}; {said[-400:]}"


def fault_of(code: int | None, said: str, left: list[str], output: str) -> str | None:
    """Why an end is none that a user should see."""
    if code is None:
        return f"hung for {HANG_SECONDS} s"
    if code == 0:
        return None if (left, said) == ([output], "") else f"done, and left {left}"
    if code not in (1, 2):
        return f"exit code {code}"
    if len(said.splitlines()) != 1 or not said.startswith("vidinv: "):
        return "not one line"
    return f"failed, and left {left}" if left else None


def output_suffix(source: Path) -> str:
    suffix = source.suffix
    return suffix if suffix in FORMATS or is_image_path(source) else ".mkv"


def keep(path: Path, answer: dict, said: str, fault: str | None, number: int) -> None:
    """For whoever looks into it."""
    folder = os.environ.get("VIDINV_DAMAGED")
    if folder is None:
        return
    harm = HARMS[number % len(HARMS)].__name__
    row = {"case": number, "file": path.name, "harm": harm, **answer, "said": said, "fault": fault}
    with open(Path(folder) / "cases.jsonl", "a") as cases:
        cases.write(json.dumps(row) + "\n")
    if fault is not None:
        (Path(folder) / f"{number}_{path.name}").write_bytes(path.read_bytes())
