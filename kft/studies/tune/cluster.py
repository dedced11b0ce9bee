"""Workers of a study on a Ray cluster, or on this machine's own Ray if there is none."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Ray reads this when it is imported. It takes the lines of two trials for one when they differ in
# numbers only.
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import ray  # noqa: E402
from ray.exceptions import RayActorError, RayTaskError  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

import kft  # noqa: E402
from kft import runs  # noqa: E402
from kft.config import TuneConfig  # noqa: E402
from kft.errors import KftError  # noqa: E402
from kft.progress import note  # noqa: E402
from kft.runs import RunDir  # noqa: E402
from kft.studies.tune import node, results, storage  # noqa: E402
from kft.studies.tune.storage import Study  # noqa: E402

POLL_SECONDS = 0.5
STOP_SECONDS = 10  # in which a worker answers that it stops; one that waits for resources cannot
OBJECT_STORE_BYTES = 80 * 2**20  # about the least that Ray takes: workers send it nothing
TALK = {"logging_level": "warning", "log_to_driver": True}

Crew = dict[ray.ObjectRef, ray.actor.ActorHandle]  # what a worker will return: the worker


def run_workers(opened: Study, url: str | None, stop: threading.Event) -> None:
    """Trains until all trials ended, by `tune.workers` workers at a time, replaced when they die.

    Args:
        opened: the study.
        url: of its storage; None where that is in the folder, which all nodes must share then.
        stop: lets the workers save their trials and end.

    Raises:
        KftError: no node has the resources of a trial or what else a worker needs, the workers
            die again and again, or the storage stopped to answer.
    """
    tune = opened.config.tune
    with _connected(tune), storage.shared_lock(opened.folder, node.SHARED_LOCK), storage.answering():
        while storage.unfinished(opened) and not stop.is_set():
            free = storage.claimable(opened)
            if free:
                _run_crew(opened, url, min(tune.workers, free), stop)
            else:  # the last ones are other commands'
                stop.wait(POLL_SECONDS)
        if not stop.is_set():
            _score_winner_remotely(opened, url)


def _run_crew(opened: Study, url: str | None, count: int, stop: threading.Event) -> None:
    """Starts workers, and waits until the last of them finds nothing to claim."""
    crew: Crew = dict(_start(opened, url) for _ in range(count))
    deaths, left, stopping = 0, len(storage.unfinished(opened)), False
    try:
        while crew:
            if stop.is_set() and not stopping:
                stopping = True
                _end(list(crew.values()))
            for work in ray.wait(list(crew), timeout=POLL_SECONDS)[0]:
                del crew[work]
                died = _death(work)
                if died is None or stopping:
                    continue
                note("a Ray worker died; its trial is taken over")
                before, left = left, len(storage.unfinished(opened))
                deaths = deaths + 1 if left == before else 1
                if deaths > storage.LARGEST_ATTEMPTS * opened.config.tune.workers:
                    raise KftError(
                        f"{deaths} Ray workers died while no trial ended: {died}",
                        "see Ray's logs; the same command goes on",
                    )
                crew |= [_start(opened, url)]
    finally:
        for worker in crew.values():
            ray.kill(worker)


def _start(opened: Study, url: str | None) -> tuple[ray.ObjectRef, ray.actor.ActorHandle]:
    worker = node.Worker.options(**_resources(opened.config.tune)).remote()
    return worker.work.remote(*_arguments(opened, url)), worker


def _arguments(opened: Study, url: str | None) -> tuple[Any, ...]:
    return opened.config, opened.folder.resolve(), url, kft.__version__


def _resources(tune: TuneConfig) -> dict[str, Any]:
    resources = {"num_cpus": tune.cpus_per_trial, "num_gpus": tune.gpus_per_trial}
    if not 0 < tune.gpus_per_trial < 1:
        return resources
    # By itself JAX takes three quarters of a GPU's memory, and leaves too little to the others that
    # share it.
    share = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 * tune.gpus_per_trial:.3f}"}
    return resources | {"runtime_env": {"env_vars": share}}


def _death(work: ray.ObjectRef) -> RayActorError | None:
    """How a worker died; None where it returned. What it raised is raised."""
    try:
        ray.get(work)
    except RayActorError as error:
        return error
    except RayTaskError as error:
        raise error.cause from None
    return None


def _end(workers: list[ray.actor.ActorHandle]) -> None:
    """Asks workers to end; those that still wait for resources are called off."""
    answers = {worker.end.remote(): worker for worker in workers}
    for silent in ray.wait(list(answers), num_returns=len(answers), timeout=STOP_SECONDS)[1]:
        ray.kill(answers[silent])


def _score_winner_remotely(opened: Study, url: str | None) -> None:
    """Where each node keeps the runs that it trained, the one with the best scores it on test."""
    best = results.gather(opened)["best"]
    if url is None or best is None or all(RunDir(Path(run)).done.exists() for run in best["runs"]):
        return
    host = best["host"].split(":")[0]
    places = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["NodeManagerHostname"] == host]
    if places:
        on_node = NodeAffinitySchedulingStrategy(places[0], soft=False)
        task = node.finish.options(scheduling_strategy=on_node, **_resources(opened.config.tune))
        try:
            ray.get(task.remote(*_arguments(opened, url)))
        except RayTaskError as error:
            raise error.cause from None


@contextlib.contextmanager
def _connected(tune: TuneConfig) -> Iterator[None]:
    """The cluster of RAY_ADDRESS or of this machine, else a Ray that ends with the command."""
    on_term = signal.getsignal(signal.SIGTERM)
    if not sys.stderr.isatty():
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints what goes on there, and some of it on stdout
        own = not _join_cluster()
        if own:
            _start_ray()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)  # Ray's own would end the command at once
        try:
            _check_resources(tune, own)
            yield
        finally:
            ray.shutdown()


def _join_cluster() -> bool:
    """Whether there is a cluster, which this process has joined.

    Raises:
        KftError: the one that RAY_ADDRESS names does not answer.
    """
    named = os.environ.get("RAY_ADDRESS")
    latest = Path(os.environ.get("RAY_TMPDIR") or "/tmp", "ray", "ray_current_cluster")  # by `ray start`
    if named == "local" or not named and not latest.is_file():
        return False
    try:
        ray.init(**TALK)
    except ConnectionError as error:
        if named:
            raise KftError(
                f"RAY_ADDRESS={named}: {runs.reason(error)}",
                "unset it for a Ray of this machine; a cluster with tokens needs RAY_AUTH_MODE=token",
            ) from None
        return False  # it ended without a word
    return True


def _start_ray() -> None:
    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        **TALK,
    )


def _check_resources(tune: TuneConfig, own: bool) -> None:
    """Tells what there is.

    Raises:
        KftError: a Ray of this machine, which cannot grow, has too little for a trial.
    """
    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    cpus, gpus = (sum(n.get(kind, 0) for n in nodes) for kind in ("CPU", "GPU"))
    where = "this machine" if own else "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    note(f"ray       {where}: {cpus:g} CPUs, {gpus:g} GPUs")
    if gpus and not tune.gpus_per_trial:
        note("ray       the trials run on CPUs; tune.gpus_per_trial = 1 gives each a GPU")
    wanted = {"CPU": tune.cpus_per_trial, "GPU": tune.gpus_per_trial}
    if any(all(n.get(kind, 0) >= count for kind, count in wanted.items()) for n in nodes):
        return
    lacking = f"no node has {wanted['CPU']:g} CPUs and {wanted['GPU']:g} GPUs for a trial"
    if own:
        raise KftError(lacking, "lower tune.cpus_per_trial or tune.gpus_per_trial")
    note(f"ray       {lacking}; waiting for one that joins")
