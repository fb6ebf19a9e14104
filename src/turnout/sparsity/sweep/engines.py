"""Engines of a sweep: trials in local processes, or on Ray."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from turnout.errors import MissingExtraError
from turnout.sparsity.sweep.trial import Job, work

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Ended = Callable[[Job, int], bool]
"""Hears of a process that ended, with its exit code; True: run the job again."""


def run_local(jobs: Sequence[Job], processes: int, started: Callable[[Job], None], ended: Ended) -> None:
    """Run every job; a killed process is one that ends with a negative code. On an interrupt all are stopped."""
    waiting, running = list(reversed(jobs)), dict[BaseProcess, Job]()
    with _one_thread():
        try:
            while waiting or running:
                while waiting and len(running) < processes:
                    job = waiting.pop()
                    started(job)
                    running[_start(job)] = job
                for process in _finished(running):
                    job = running.pop(process)
                    if ended(job, process.exitcode or 0):
                        waiting.append(job)
        finally:
            for process in running:
                process.terminate()
                process.join()


def _start(job: Job) -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=_work_beside, args=(job,))
    process.start()
    return process


def _work_beside(job: Job) -> None:
    """`work`, for as long as the sweep lives: an orphan would hold its trial against the sweep that goes on."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()
    work(job)


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _finished(running: dict[BaseProcess, Job]) -> list[BaseProcess]:
    wait([process.sentinel for process in running])
    ended = [process for process in running if not process.is_alive()]
    for process in ended:
        process.join()
    return ended


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started inside take one thread each: two of them do more than one that takes both cores."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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
