"""A run on a node that is told it has two GPUs, beside one without; for test_ray.py.

python -m tests.pipelines.batch.on_gpus INPUTS OUTPUT PACK
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"

import ray
from ray.cluster_utils import Cluster

from pipelines.batch.driver import run
from pipelines.batch.request.batch_request import BatchRequest
from vidinv.errors import UsageError
from vidinv.video import EncodeOptions

SMILE = {"smile": ((0.0, 0.0), (0.6, 1.5))}


def main(inputs: str, output: str, pack: str) -> None:
    manifest = Path(inputs) / "list.jsonl"
    rows = [
        {"input": path.name, "output": f"{path.stem}.mkv"} for path in Path(inputs).glob("*.mp4")
    ]
    manifest.write_text("\n".join(map(json.dumps, rows)))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0})
    cluster.add_node(num_cpus=1, num_gpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    fields = {
        "inputs": [str(manifest)],
        "output": Path(output),
        "attributes": SMILE,
        "pack": pack,
        "segment_frames": 8,
        "encode": EncodeOptions(encoder="ffv1"),
        "runner_class": "tests.pipelines.batch.faulty:TellingRunner",
    }
    refused = ""
    try:
        run(BatchRequest(**fields, worker_cpus=1.0))
    except UsageError as error:
        refused = str(error)
    result = run(BatchRequest(**fields, num_workers=1, resume=True))
    log = (Path(output) / ".vidinv-batch" / "batch.log").read_text()
    facts = {
        "refused": refused,
        "gpus": {
            task: re.findall(rf"{task} on GPUs \[(.*)\]", log)
            for task in ("AnalyseTask", "RenderTask")
        },
        "workers": [worker.name for worker in result.workers],
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
