"""A function over many jobs: in this process, on worker processes of this machine, or on any Dask cluster.

Jobs are handed out one a core, and the next when one is back: Ctrl-C then finds nothing that was promised
but not begun, and a worker that dies has one job in hand. Dask gives that job to another; one that has taken
`LIVES` workers with it is given up, as failed. Why processes: a fit holds the interpreter, and a crash in
compiled code takes its process along, not the batch.
"""

from __future__ import annotations

import logging
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, TypeVar

__all__ = ["Back", "over", "require_dask"]

In = TypeVar("In")

LIVES = 3  # workers that may die under one job; one that waits behind a culprit is under suspicion too
TICK = 5.0  # seconds without an answer before the cluster is looked after
PATIENCE = 10.0  # seconds for a scheduler to answer
EXTRA = "pip install 'ocsdf3d[distributed]'"
ENVIRONMENT = {  # of worker processes, before their libraries load: one core each
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "IGL_NUM_THREADS": "1",
    "LP_NUM_THREADS": "0",  # Mesa draws in the caller's thread
    "DASK_LOGGING__DISTRIBUTED": "critical",  # what a lost worker means is said once, by us
}

# Read by glibc as a process starts. Dask's own setting, 64 kB, hands freed memory back at every turn and asks
# for it anew: a small shape took 2.09 s on each of two workers, 1.61 s when they may keep 256 MB.
BEFORE_SPAWNING = {"MALLOC_MMAP_THRESHOLD_": 32 * 2**20, "MALLOC_TRIM_THRESHOLD_": 256 * 2**20}


class Back(NamedTuple):
    """A job that has come back: what it gave or what it raised, and how often it was begun."""

    job: Any
    value: Any
    error: BaseException | None
    begun: int


def require_dask() -> None:
    """Refuse where Dask is not installed.

    Raises
    ------
    ImportError
        With the command that installs it.
    """
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"several workers need Dask ({error}): {EXTRA}. One worker, in this process, needs nothing more."
        ) from error


def over(
    function: Callable[[In], Any],
    jobs: Sequence[In],
    *,
    workers: int = 1,
    scheduler: str | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Back]:
    """Yield each job with what the function made of it, as they come back.

    Parameters
    ----------
    function : callable
        Of a module, so that a worker finds it by its name; pure, since a job may be begun again.
    jobs : sequence
        Its arguments, picklable.
    workers : int
        Processes on this machine; 1 is this process, without Dask. Means nothing beside `scheduler`.
    scheduler : str, optional
        Address of a running Dask scheduler, as `tcp://host:8786`.
    stop : callable
        Asked before a job is handed out; True ends it all once what is in hand is back.

    Raises
    ------
    ImportError
        Dask is needed and absent.
    ConnectionError
        The scheduler does not answer, or has gone; what is in hand is lost.
    """
    if workers == 1 and scheduler is None:
        yield from _here(function, jobs, stop)
        return
    require_dask()
    with _client(workers, scheduler) as (client, mend):
        yield from _there(client, mend, function, jobs, stop)


def _here(function: Callable[[In], Any], jobs: Sequence[In], stop: Callable[[], bool]) -> Iterator[Back]:
    for job in jobs:
        if stop():
            return
        try:
            value, error = function(job), None
        except Exception as raised:  # whatever a job raises is its answer; the others go on
            value, error = None, raised
        yield Back(job, value, error, 1)


def _there(
    client: Any,
    mend: Callable[[], object],
    function: Callable[[In], Any],
    jobs: Sequence[In],
    stop: Callable[[], bool],
) -> Iterator[Back]:
    """Hand out one job a core; `mend` is called when nothing has come back for a while."""
    from distributed import as_completed

    topic, begun = f"ocsdf3d-{uuid.uuid4().hex}", dict.fromkeys(range(len(jobs)), 0)

    def count(event: tuple[float, int]) -> None:
        begun[event[1]] += 1

    client.subscribe_topic(topic, count)
    waiting = iter(range(len(jobs)))
    held: dict[Any, int] = {}
    while True:
        room = max(1, sum(client.nthreads().values())) - len(held)
        while room > 0 and not stop() and (number := next(waiting, None)) is not None:
            held[client.submit(_told, function, jobs[number], topic, number, pure=False)] = number
            room -= 1
        if not held:
            return
        try:
            future = next(as_completed(list(held), loop=client.loop, timeout=TICK))
        except TimeoutError:
            mend()
            continue
        number = held.pop(future)
        if future.status in ("cancelled", "lost") or client.status != "running":
            raise ConnectionError("the Dask scheduler has gone; start again to go on with what is left.")
        error = None if future.status == "finished" else _error_of(future)
        value = None if error is not None else future.result()
        future.release()
        yield Back(jobs[number], value, error, max(1, begun[number]))


def _told(function: Callable[[In], Any], job: In, topic: str, number: int) -> Any:
    """Call the function on a worker, once the scheduler knows that this job was begun."""
    from distributed import get_worker
    from distributed.utils import sync

    worker = get_worker()
    sync(worker.loop, worker.scheduler.log_event, topic=topic, msg=number)
    return function(job)


def _error_of(future: Any) -> BaseException:
    from distributed.scheduler import KilledWorker

    error: BaseException = future.exception()
    if isinstance(error, KilledWorker):
        return RuntimeError(
            f"{LIVES} workers died that had it; too little memory, or a crash in compiled code"
        )
    return error


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[tuple[Any, Callable[[], object]]]:
    """A client of the scheduler, or of a cluster of processes that ends with the block; and what mends it."""
    import dask
    from distributed import Client, LocalCluster

    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        stack.callback(logger.setLevel, before)
        if scheduler is not None:
            try:
                client = stack.enter_context(Client(scheduler, timeout=PATIENCE, set_as_default=False))
            except (OSError, ValueError) as error:
                raise ConnectionError(
                    f"no Dask scheduler answers at {scheduler} ({error}). Start one with `dask scheduler`, "
                    "and workers with `dask worker ADDRESS --nthreads 1`."
                ) from error
            yield client, lambda: None  # its workers are the user's
            return
        theirs = dask.config.get("distributed.nanny.pre-spawn-environ")
        settings = {
            "distributed.scheduler.allowed-failures": LIVES - 1,
            "distributed.nanny.pre-spawn-environ": {**theirs, **BEFORE_SPAWNING},
        }
        stack.enter_context(dask.config.set(settings))
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",  # None is port 8787, with a warning beside another batch
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,  # a share for each would stop a large shape that the whole machine has room for
            env=ENVIRONMENT,
            silence_logs=logging.CRITICAL,
            preload=[__name__],
        )
        stack.enter_context(cluster)
        # A worker that is killed while it starts is not started again by its keeper, but by this.
        yield stack.enter_context(Client(cluster, set_as_default=False)), lambda: cluster.scale(workers)


def dask_setup(worker: Any) -> None:
    """Make a worker process deaf to Ctrl-C, which a terminal sends to all of its processes.

    Only the one that hands out may hear it. Dask calls this before a worker begins (`preload`).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
