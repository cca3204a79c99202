"""The Ray that a sweep runs on: one that runs already and is joined, or this machine's own (local_ray.py).

Ray prints a lot; a user sees only the sweep's own lines. A Ray that runs already is used and left running.

Processes that only wait (the queue, Tune's relays) take a thousandth of a resource that every head node has, and no
CPU: taking CPUs from the workers that they wait for could be a deadlock. They thus also stay on the head node, which
lives as long as the cluster, however other nodes come and go.
"""

import logging
import os
import re
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mergenet.errors import ConfigError, one_line
from mergenet.records.packages import package_problems
from sweeps.execution.forkserver.start import runtime_env
from sweeps.execution.ray_folder import environment

QUIET = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how often a controller polls; the default, 2 s, costs seconds
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one process fewer per slot; for cloud nodes, which do not matter here
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the warning about it goes with the coming default
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in configurations mean the user's directory
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # a sweep has more processes than cores by design: controllers and relays wait, they do not compute
    "RAY_gcs_server_port_wait_time_s": "60",  # for busy machines; Ray's default is 30
    "RAY_DEDUP_LOGS_SKIP_REGEX": "worker processes have been started on node",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard copies: the run records are the truth
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own would end the search as if it had finished
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that pauses before its first epoch has ended reports nothing
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",  # its snapshots hold up every trial, and a sweep is resumed from its own records
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
# those without which a sweep would do something else; of the others a value of the user's stays
NEEDED = ("RAY_CHDIR_TO_TRIAL_DIR", "TUNE_DISABLE_SIGINT_HANDLER", "TUNE_DISABLE_STRICT_METRIC_CHECKING")
LOGGERS = ("ray", "ray.tune", "ray.train", "ray.data")
HEAD = {"node:__internal_head__": 0.001}
AT_ONCE = "RAY_worker_maximum_startup_concurrency"  # read by the raylet
MANY_RELAYS = 16  # from so many slots on, starting one process after another takes many seconds
TOKEN_TEXT = "it asks for a token: export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE, the same as its head; "


@contextmanager
def joined_ray(address: str) -> Iterator[None]:
    """Inside, this process is a driver of the Ray that runs at an address; "auto" is the one of this machine.

    Workers on other nodes get the settings of `quiet`, which hold no secret. Raises ConfigError if there is no Ray.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    said: list[str] = []
    try:
        check_reachable(address)
        with hushed(said):
            ray.init(
                address=address,
                runtime_env={"env_vars": {name: os.environ[name] for name in QUIET}, **runtime_env(here=False)},
                logging_level=logging.ERROR,
                log_to_driver=False,
                configure_logging=False,
            )
    except Exception as error:  # OSError, ConnectionError, ValueError, RuntimeError: they have no common base
        reason = one_line(error)
        refused = "no authentication token" in reason or any("InvalidAuthToken" in line for line in said)
        token = TOKEN_TEXT if refused else ""
        raise ConfigError(
            f"address (--address) must be that of a running Ray, as auto or HOST:6379, got {address!r} ({reason}); "
            f"{token}leave it out to run on this machine alone"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def hushed(said: list[str]) -> Iterator[None]:
    """Inside, Ray's standard error (one line per second while it retries a connection) goes into `said` instead."""
    real = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            file.seek(0)
            said += file.read().decode(errors="replace").splitlines()


def is_up() -> bool:
    """Whether this process is a driver of a Ray already."""
    import ray

    return bool(ray.is_initialized())


def check_running(needed: int, address: str | None) -> None:
    """Raises ConfigError if the Ray of this process is not one that a sweep could run on. needed: CPUs."""
    import ray

    nodes = sum(node["Alive"] for node in ray.nodes())
    if address is None and nodes > 1:
        raise ConfigError(
            f"the Ray that this process has started must be on one machine, got {nodes} nodes; pass address='auto' "
            "if all of them see the sweep folder, or call ray.shutdown() before"
        )
    cpus = ray.cluster_resources().get("CPU", 0.0)
    if cpus < needed:
        raise ConfigError(
            f"the Ray that this process has started must have {needed} CPUs for slots x workers_per_trial, got "
            f"{cpus:g}; lower slots, or call ray.shutdown() before, and the sweep starts its own"
        )


def look_at_workers() -> Callable[[], None]:
    """Has a worker of each node look for our packages. Returns a function to call once the answers are needed.

    That raises ConfigError if the workers of some node cannot import our packages, or would import others, or a part.
    """
    import ray
    from ray.exceptions import RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(package_problems)
    answers = list[tuple[str, Any]]()
    for node in [node for node in ray.nodes() if node["Alive"]]:
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)
        answers.append((node["NodeManagerAddress"], look.options(scheduling_strategy=where).remote()))

    def check() -> None:
        for place, answer in answers:
            try:
                problems = ray.get(answer)
            except RayTaskError as error:
                found = str(error).strip().splitlines()[-1][:200]
                problems = [f"mergenet must be installed in this version, got {found}; install it, or set PYTHONPATH"]
            for line in problems:
                raise ConfigError(f"Ray's workers on node {place}: {line}")

    return check


def check_address(address: str | None) -> None:
    """Raises ConfigError for what is no address, without showing it where it may hold a password."""
    if address is None or re.fullmatch(r"auto|[^\s@/]+:[0-9]{1,5}", address):
        return
    got = "one with a user or password" if "@" in address else repr(address[:60])
    raise ConfigError(
        f"address (--address) must be auto or HOST:PORT of a running Ray, got {got}; no user and no scheme"
    )


def check_reachable(address: str) -> None:
    """Raises OSError or ValueError at once where Ray itself would try for minutes."""
    if address != "auto":
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()


def cluster_text() -> str:
    """What the cluster has now, for a line; nodes may come and go."""
    import ray

    nodes = sum(node["Alive"] for node in ray.nodes())
    has = ray.cluster_resources()
    return f"{nodes} nodes, {has.get('CPU', 0):g} CPUs, {has.get('GPU', 0):g} GPUs"


def slow_head(slots: int) -> str | None:
    """A line where the head will start the relays of so many slots one after another; else None.

    Ray starts as many processes of a node at a time as that has CPUs, at least one (findings/ray_node_without_cpus.sh);
    a head is often started without CPUs, so that nothing trains on it.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_cpus = any(HEAD.keys() <= resources.keys() and resources.get("CPU") for resources in nodes)
    if slots < MANY_RELAYS or has_cpus or AT_ONCE in os.environ:  # a driver often runs on the head
        return None
    return (
        f"the head has no CPUs, so that Ray starts one process at a time there, and {slots} slots need one each: "
        f"on more than two cores put {AT_ONCE}=N in front of `ray start --head`, with one less than its cores for N"
    )


def cluster_gpus() -> float:
    import ray

    return float(ray.cluster_resources().get("GPU", 0.0))


@contextmanager
def quiet() -> Iterator[None]:
    """Ray's environment and log levels for a sweep, restored afterwards. Ray reads some of them when imported."""
    with (
        environment({name: value for name, value in QUIET.items() if name not in os.environ or name in NEEDED}),
        warnings.catch_warnings(),
    ):
        import ray._private.worker as driver  # its import sets log levels, so ours come after it

        levels = {name: logging.getLogger(name).level for name in LOGGERS}
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        # Ray prints a paragraph for each process that dies, whatever log_to_driver says; the sweep prints one line
        said, driver.print_to_stdstream = driver.print_to_stdstream, lambda *_, **__: None
        try:
            yield
        finally:
            driver.print_to_stdstream = said
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
