"""The Ray that a sweep starts on this machine and stops with itself.

It starts in a thread, beside the plan: either takes seconds, most of which Ray only waits for its processes. That
thread lasts as long as Ray does, because Linux would end the processes with the thread that started them.
"""

import atexit
import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path

from mergenet.errors import UserError, named_line
from sweeps.execution.forkserver.start import fork_server, runtime_env
from sweeps.execution.ray_folder import check_room, environment, place_of_ray, ray_folder
from sweeps.trials.errors import RayFailed

OBJECT_STORE_BYTES = 160 * 1024**2  # jobs and rows only; data and weights never pass through it
PRESTART = "RAY_prestart_worker_first_driver"
TOKEN = Path("~/.ray/auth_token")


class LocalRay(threading.Thread):
    """Starts a Ray, and stops it once `over` is set, for the thread that has made this one.

    up: done when Ray is, or with why it is not. taken: whether a `local_ray` has it, and stops it. failed: an error on
    the way out.
    """

    def __init__(self, num_cpus: int) -> None:
        super().__init__(name=LocalRay.__name__, daemon=True)
        self.num_cpus, self.owner = num_cpus, threading.get_ident()
        self.up, self.over = Future[None](), threading.Event()
        self.taken = False
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            with ray_folder(), fork_server():
                self.serve()
        except BaseException as error:
            if self.up.done():
                self.failed = error
            else:
                self.up.set_exception(error)
        finally:
            atexit.unregister(self.stop)

    def serve(self) -> None:
        import ray

        if self.over.is_set():
            raise RayFailed("Ray is not wanted any more")
        log = logging.getLogger("ray._private.worker")
        log.addFilter(said_elsewhere)
        try:
            start(self.num_cpus, self.over)
            keep_token_private()
            self.up.set_result(None)
            self.over.wait()
        finally:
            ray.shutdown()
            log.removeFilter(said_elsewhere)

    @property
    def gone(self) -> bool:
        """Whether nobody may use it any more."""
        return self.over.is_set() or (self.up.done() and self.up.exception() is not None)

    def stop(self) -> None:
        self.over.set()
        if self.is_alive():
            self.join()


def said_elsewhere(record: logging.LogRecord) -> bool:
    """Whether a line is not of a LocalRay: `quiet` may have ended while that is still starting."""
    return record.threadName != LocalRay.__name__


_ours: LocalRay | None = None  # the last that was made
_lock = threading.Lock()


def is_starting() -> bool:
    """Whether a Ray of `ray_starting`, called by this thread, is there for a `local_ray` to take."""
    if _ours is None or _ours.over.is_set():
        return False
    return not _ours.taken and _ours.owner == threading.get_ident()


def settle() -> None:
    """Waits for a Ray of this module that is being stopped, or that another thread is starting."""
    if _ours is None or is_starting():
        return
    if _ours.over.is_set():
        _ours.stop()
    else:
        wait([_ours.up])


@contextmanager
def ray_starting(num_cpus: int) -> Iterator[None]:
    """Inside, a Ray starts for `local_ray`, unless this process has one. To be used inside `quiet`.

    After an error of the user's, or Ctrl-C, it stops in its own time, so that this is told at once; `settle` waits.
    """
    global _ours
    import ray

    begun = None
    with _lock:
        settle()
        if (_ours is None or _ours.gone) and not ray.is_initialized():
            begun = _ours = LocalRay(num_cpus)
    if begun is None:
        yield
        return
    try:
        atexit.register(begun.stop)  # before Ray's own, which was registered when it was imported
        begun.start()
        yield
    except (UserError, KeyboardInterrupt):
        begun.over.set()
        raise
    except BaseException:
        begun.stop()
        raise
    begun.stop()
    if begun.failed is not None:
        raise begun.failed


@contextmanager
def local_ray(num_cpus: int) -> Iterator[None]:
    """Inside, Ray is up: that of `ray_starting`, this process's own, or a new one. To be used inside `quiet`.

    A Ray of this module has stopped at the end. num_cpus: of a new one. Raises RayFailed, OSError if its disk is full.
    """
    with contextlib.nullcontext() if is_starting() else ray_starting(num_cpus):
        if not is_starting():
            yield
            return
        assert _ours is not None
        ours = _ours
        ours.taken = True
        ours.up.result()
        try:
            yield
        finally:  # not beside what follows: a reference that is dropped while Ray stops would end the process
            ours.stop()


def start(num_cpus: int, unwanted: threading.Event | None = None) -> None:
    """Starts a Ray, with a second attempt if needed, unless it is unwanted by then. Raises RayFailed."""
    import ray

    started_as = runtime_env(here=True)
    for attempt in range(2):
        try:
            with environment({PRESTART: "0"} if started_as else {}):  # nobody would use workers that were not forked
                ray.init(
                    address="local",  # never a cluster that RAY_ADDRESS happens to name
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    runtime_env=started_as,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    configure_logging=False,
                )
        except Exception as error:  # they have no common base
            ray.shutdown()
            check_room(place_of_ray())
            if attempt == 1 or (unwanted is not None and unwanted.is_set()):
                raise RayFailed(f"Ray did not start, twice: {named_line(error, 300)}; {way_out(error)}") from None
        else:
            return


def way_out(error: Exception) -> str:
    """What to do about a Ray that does not start. Ray calls the functions that variables named HOOK hold."""
    place = TOKEN.expanduser().parent
    if isinstance(error, OSError) and str(error.filename).startswith(str(place)):
        return f"Ray keeps a file in {place}, so set HOME to a folder that can be written, it is {TOKEN.home()}"
    if hooks := sorted(name for name in os.environ if name.startswith("RAY_") and name.endswith("HOOK")):
        return f"{' and '.join(hooks)} in the environment changes how it starts, so unset it"
    logs = place_of_ray() / "session_latest/logs"
    return f"if the machine is too busy, try again later; Ray's own words are in {logs}"


def keep_token_private() -> None:
    """Ray writes its authentication token readable for everybody."""
    token = TOKEN.expanduser()
    if token.is_file():
        token.chmod(0o600)
