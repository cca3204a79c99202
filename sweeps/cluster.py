"""The Ray that a sweep runs on: this machine's, started for the sweep and stopped with it.

Ray says a lot; a user sees only the sweep's own lines. A Ray that runs already is used and left running.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

QUIET = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how often a slot's controller looks; the default, 2 s, costs seconds
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one process less a slot; nodes of a cloud are not in question here
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the warning about it goes with the coming default
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths in configurations mean the user's directory
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # a sweep has more processes than cores by design: controllers and relays wait, they do not compute
    "RAY_DEDUP_LOGS_SKIP_REGEX": "worker processes have been started on node",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard copies: the run records are the truth
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own would end the search as if it had finished
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
LOGGERS = ("ray", "ray.tune", "ray.train", "ray.data")
OBJECT_STORE_BYTES = 160 * 1024**2  # jobs and rows only; data and weights never pass through it
TOKEN = Path("~/.ray/auth_token")


@contextmanager
def local_ray(slots: int) -> Iterator[None]:
    """Inside, Ray is up with a `trial_slot` for each slot.

    To be used inside `quiet`. Raises RuntimeError if a running Ray lacks the slots.
    """
    import ray

    if ray.is_initialized():
        free = ray.cluster_resources().get("trial_slot", 0)
        if free < slots:
            raise RuntimeError(f'the running Ray must have {slots} of "trial_slot", got {free:g}; start it with them')
        yield
        return
    try:
        ray.init(
            address="local",  # never a cluster that RAY_ADDRESS happens to name
            num_cpus=max(slots, os.cpu_count() or 1),
            resources={"trial_slot": slots},
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            logging_level=logging.ERROR,
            log_to_driver=False,
            configure_logging=False,
        )
        keep_token_private()
        yield
    finally:
        ray.shutdown()


def keep_token_private() -> None:
    """Ray writes its authentication token readable for everybody."""
    token = TOKEN.expanduser()
    if token.is_file():
        token.chmod(0o600)


@contextmanager
def quiet() -> Iterator[None]:
    """Ray's environment and log levels for a sweep; both are as before afterwards. Ray reads some when imported."""
    before = {name: os.environ.get(name) for name in QUIET}
    os.environ.update({name: value for name, value in QUIET.items() if before[name] is None})
    import ray  # noqa: F401 - its import sets log levels, so ours come after it

    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
