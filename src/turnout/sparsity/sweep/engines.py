"""Engines of a sweep: trials in local processes, or on Ray; a trial whose process was killed is run once more."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from turnout.errors import MissingExtraError
from turnout.listener import Listener
from turnout.sparsity.sweep.trial import ERROR, RESULT, Job, run_trial, write_error

_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_MOST_RUNS = 2  # of a trial whose process is killed
_KILLED = -9


class Queue:
    """Jobs that wait to be run, in order.

    Args:
        jobs: the jobs.
        listener: receives each trial's new state.
    """

    def __init__(self, jobs: Sequence[Job], listener: Listener) -> None:
        self._waiting, self._listener = list(reversed(jobs)), listener
        self._runs: dict[Path, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self) -> Job:
        """Take the next job out of the queue."""
        job = self._waiting.pop()
        self._runs[job.folder] = self._runs.get(job.folder, 0) + 1
        self._listener.trial(job.folder.name, "running")
        return job

    def end(self, job: Job, exit_code: int) -> None:
        """Receive that a job's process has ended; without a result or an error it waits again, or has failed."""
        if (job.folder / RESULT).exists():
            self._listener.trial(job.folder.name, "done")
            return
        if not (job.folder / ERROR).exists():
            if self._runs[job.folder] < _MOST_RUNS:
                self._waiting.append(job)
                self._listener.trial(job.folder.name, "waiting")
                return
            ended = f"killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
            message = f"its process was {ended}, {_MOST_RUNS} times; perhaps it needs more memory than there is"
            write_error(job.folder, message)
        self._listener.trial(job.folder.name, "failed")


def run_local(queue: Queue, processes: int) -> None:
    """Run every job in a fresh process of one thread, so many at a time; on an interrupt all are stopped."""
    running = dict[BaseProcess, Job]()
    with _one_thread():
        try:
            while queue or running:
                while queue and len(running) < processes:
                    job = queue.start()
                    running[_start(job)] = job
                for process in _ended(running):
                    queue.end(running.pop(process), process.exitcode or 0)
        finally:
            for process in running:
                process.terminate()
                process.join()


def run_on_ray(queue: Queue, processes: int) -> None:
    """Run every job in a Ray worker of one thread, used once, on this machine or the cluster of RAY_ADDRESS.

    The cluster's machines must share the sweep's folder.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    ray = _ray()
    started_here = not ray.is_initialized()
    if started_here:
        ray.init(
            address=os.environ.get("RAY_ADDRESS"),
            num_cpus=None if os.environ.get("RAY_ADDRESS") else processes,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
        )
    try:
        _run_in_workers(ray, queue, processes)
    finally:
        if started_here:
            ray.shutdown()


def _start(job: Job) -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=_run_while_parent_lives, args=(job,))
    process.start()
    return process


def _run_while_parent_lives(job: Job) -> None:
    """Run the trial, but end with the sweep's process: an orphan would block its trial when the sweep resumes."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()
    run_trial(job)


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _ended(running: dict[BaseProcess, Job]) -> list[BaseProcess]:
    """Wait until at least one process has ended; all that have."""
    wait([process.sentinel for process in running])
    ended = [process for process in running if not process.is_alive()]
    for process in ended:
        process.join()
    return ended


@contextmanager
def _one_thread() -> Iterator[None]:
    """Environment of one thread for processes started inside: two of them are faster than one with both cores."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _run_in_workers(ray: Any, queue: Queue, processes: int) -> None:
    worker = ray.remote(num_cpus=1, max_calls=1, max_retries=0, runtime_env={"env_vars": _ONE_THREAD})(run_trial)
    running: dict[Any, Job] = {}
    while queue or running:
        while queue and len(running) < processes:
            job = queue.start()
            running[worker.remote(job)] = job
        (ended, *_), _ = ray.wait(list(running))
        queue.end(running.pop(ended), _exit_code(ray, ended))


def _exit_code(ray: Any, reference: Any) -> int:
    """0, or that of a killed process for any error that Ray reports: the trial's own are files."""
    try:
        ray.get(reference)
    except ray.exceptions.RayError:
        return _KILLED
    return 0


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        do = "install turnout[ray]"
        raise MissingExtraError("--engine ray", expected="the package ray", received="none", do=do) from error
    return ray
