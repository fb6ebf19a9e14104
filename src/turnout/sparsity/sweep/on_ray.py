"""Trials on Ray: this machine, or the cluster of RAY_ADDRESS, whose machines must share the sweep's folder."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from turnout.errors import MissingExtraError
from turnout.sparsity.sweep.local import Ended
from turnout.sparsity.sweep.work import Job, work

_KILLED = -9


def run_on_ray(jobs: Sequence[Job], processes: int, started: Callable[[Job], None], ended: Ended) -> None:
    """As `run_local`, with Ray's workers, each of one thread and used once.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    ray = _ray()
    mine = not ray.is_initialized()
    if mine:
        ray.init(
            address=os.environ.get("RAY_ADDRESS"),
            num_cpus=None if os.environ.get("RAY_ADDRESS") else processes,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
        )
    try:
        _run(ray, list(reversed(jobs)), processes, started, ended)
    finally:
        if mine:
            ray.shutdown()


def _run(ray: Any, waiting: list[Job], processes: int, started: Callable[[Job], None], ended: Ended) -> None:
    threads = {"env_vars": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}}
    remote = ray.remote(num_cpus=1, max_calls=1, max_retries=0, runtime_env=threads)(work)
    running: dict[Any, Job] = {}
    while waiting or running:
        while waiting and len(running) < processes:
            job = waiting.pop()
            started(job)
            running[remote.remote(job)] = job
        (done, *_), _ = ray.wait(list(running))
        job = running.pop(done)
        if ended(job, _exit_code(ray, done)):
            waiting.append(job)


def _exit_code(ray: Any, done: Any) -> int:
    """0, or as of a process that was killed: whatever Ray says of a worker that is gone."""
    try:
        ray.get(done)
    except ray.exceptions.RayError:
        return _KILLED
    return 0


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "--engine ray", expected="the package ray", received="none", do="install turnout[ray]"
        ) from error
    return ray
