"""The workers of a run as those of Ray Train, on this machine or a cluster (docs/CLUSTER.md).

Ray starts them, joins them to a group of torch.distributed and gives each its GPU; from there on a
run is what it is without Ray, with the same losses. Needs ``ray[train]`` (extra ``cluster``), which
is imported here alone, when such a run starts.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from training.compute import DeviceWish
from training.request import TrainingRequest
from training.worker_errors import last_line, own_error
from vidinv.errors import MissingDependencyError, VidinvError


def train_on_ray(request: TrainingRequest, workers: int, device: DeviceWish) -> None:
    """Run the workers and wait for the end.

    On a Ray that this process is connected to, else on the cluster that ``RAY_ADDRESS`` names, else
    on one of its own.

    Args:
        device: ``loop.device``; ``"auto"`` takes GPUs where the cluster has them, whatever this
            machine has.

    Raises:
        MissingDependencyError: Ray Train's packages are not there.
        VidinvError: a worker failed; its own words are in the message.
    """
    try:
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError
    except ImportError as error:
        raise MissingDependencyError(
            "--ray needs Ray Train: pip install -e '.[cluster]' (in the checkout of vidinv)"
        ) from error
    here = replace(
        request,
        config=request.config.resolve(),
        out=request.out.resolve(),
        data=request.data.resolve(),
    )
    if not ray.is_initialized():
        ray.init()
    on_gpu = device == "cuda" or (device == "auto" and "GPU" in ray.cluster_resources())
    trainer = TorchTrainer(
        _worker,
        train_loop_config={key: _plain(value) for key, value in asdict(here).items()},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=on_gpu),
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        run_config=RunConfig(name="ray", storage_path=str(here.out)),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        # Of several the first: the others often say no more than that they lost it.
        failures = getattr(error, "worker_failures", {})
        words = str(failures[min(failures)] if failures else error)
        if (own := own_error(words)) is not None:
            raise own from None
        raise VidinvError(f"a worker of Ray Train failed: {last_line(words)}") from error


def _worker(settings: dict[str, Any]) -> None:
    """In a process of Ray, which has joined the group."""
    from training.start import run

    paths = {key: Path(settings[key]) for key in ("config", "out", "data")}
    run(TrainingRequest(**{**settings, **paths}))


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
