"""A run on a cluster that loses one of its two nodes, and one that does not; for test_faults.py.

python -m tests.pipelines.batch.lose_a_node INPUTS OUTPUT PACK
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from pipelines.batch.driver import run
from pipelines.batch.request.batch_request import BatchRequest

SMILE = {"smile": ((0.0, 0.0), (0.6, 1.5))}


def main(inputs: str, output: str, pack: str) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    other = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    fields = {
        "inputs": [inputs],
        "attributes": SMILE,
        "pack": pack,
        "segment_frames": 8,
        "num_workers": 4,
        "quiet": False,
    }
    run(BatchRequest(**fields, output=Path(output) / "plain"))
    journal = Path(output) / "lost" / ".vidinv-batch" / "journal.jsonl"
    lost = []

    def lose() -> None:
        while not (journal.exists() and b'"rendered"' in journal.read_bytes()):
            time.sleep(0.05)
        lost.append(b'"finished"' not in journal.read_bytes())
        cluster.remove_node(other, allow_graceful=False)

    threading.Thread(target=lose, daemon=True).start()
    result = run(BatchRequest(**fields, output=Path(output) / "lost"))
    facts = {
        "quarantined": len(result.quarantined),
        "lost_while_running": bool(lost and lost[0]),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
