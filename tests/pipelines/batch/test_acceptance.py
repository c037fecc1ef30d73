"""Twelve real clips, bad ones among them: what can be done is done, in less than twice the time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipelines.batch.acceptance import GOOD


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_bad_clips_cost_the_good_ones_nothing_but_some_time(shared_dir, tmp_path):
    script = [sys.executable, "-m", "tests.pipelines.batch.acceptance"]
    folders = [str(shared_dir / "clips"), str(tmp_path)]
    done = subprocess.run([*script, *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith('{"'))  # Ray talks
    facts = json.loads(line)
    print(json.dumps(facts, indent=1))
    good = sorted(f"{Path(name).stem}{_suffix(name)}" for name in GOOD)
    assert facts["identical"] == good
    assert sorted(set(facts["done"]) - set(good)) == ["faceless.mp4"]
    assert any("no face" in warning for warning in facts["faceless_warnings"])
    truncated, hanging, crashing = (
        next(row for row in facts["quarantined"] if row["output"].startswith(name))
        for name in ("truncated", "hanging", "crashing")
    )
    assert len(facts["quarantined"]) == 3
    assert (truncated["stage"], truncated["attempts"]) == ("analyse", 1)
    assert (hanging["stage"], hanging["attempts"]) == ("analyse", 1)
    assert "hung" in hanging["cause"]
    assert (crashing["stage"], crashing["segment"], crashing["attempts"]) == ("render", 0, 2)
    assert "died" in crashing["cause"]
    assert facts["ratio"] < 2


def _suffix(name: str) -> str:
    """Of the output: MPEG program streams become MP4."""
    return ".mp4" if name.endswith(".mpg") else Path(name).suffix
