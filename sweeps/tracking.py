"""A mirror of the sweep on Weights & Biases: one run for each job, written from the driver.

The run records are the truth. The mirror may be offline, late or down, and the sweep does not notice: every call
runs in a thread of its own and is guarded; after the first trouble the job goes on without its mirror, which is said
once.
"""

import logging
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from analysis.trials import FAILED, SOURCE
from sweeps.config import SweepConfig
from sweeps.jobs import EPOCH
from sweeps.mailbox import Message
from sweeps.space import label_of

FINISH_SECONDS = 60


class Mirror:
    """Listens to the events of the slots; `close` at the end. say: called at most once, with what went wrong."""

    def __init__(self, sweep: SweepConfig, folder: Path, say: Callable[[str], None]) -> None:
        self.sweep, self.folder, self.say = sweep, folder, say
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wandb")  # init and finish may block
        self.calls: list[Future[None]] = []
        self.runs: dict[str, Any] = {}
        self.params: dict[str, dict[str, Any]] = {}
        self.troubled = False

    def __call__(self, event: Message) -> None:
        if self.sweep.wandb.mode != "disabled" and event["event"] in EVENTS and event["role"] != SOURCE:
            self.calls.append(self.thread.submit(self._guarded, event))

    def close(self) -> None:
        """Wait for what is under way, for a minute at most. Jobs that have not ended were interrupted."""
        ending = {"event": "ended", "state": FAILED}
        wait(self.calls, timeout=FINISH_SECONDS)
        self.calls = [self.thread.submit(self._guarded, ending | {"job": job}) for job in self.runs]
        wait(self.calls, timeout=FINISH_SECONDS)
        self.thread.shutdown(wait=False, cancel_futures=True)

    def _guarded(self, event: Message) -> None:
        try:
            EVENTS[event["event"]](self, event)
        except Exception as error:  # W&B raises anything from CommError to ConnectionResetError
            self.runs.pop(event["job"], None)
            if not self.troubled:
                self.troubled = True
                self.say(f"wandb: no mirror for {event['job']} ({type(error).__name__}: {error}); training goes on")

    def _queued(self, event: Message) -> None:
        self.params[event["job"]] = event["params"]

    def _start(self, event: Message) -> None:
        import wandb

        logging.getLogger("wandb").setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = wandb.init(
                mode=self.sweep.wandb.mode,
                project=self.sweep.wandb.project,
                id=f"{self.sweep.name}-{event['job']}",
                name=event["job"],
                group=self.sweep.name,
                job_type=event["role"].split("_")[0],
                config=scalars(event, self.params.get(event["job"], {})),
                dir=str(self.folder),
                resume="allow",
                reinit="create_new",
                settings=settings(wandb),
            )
        run.define_metric(EPOCH)
        run.define_metric("*", step_metric=EPOCH)
        run.define_metric(self.sweep.objective, step_metric=EPOCH, summary=f"{self.sweep.mode},last")
        self.runs[event["job"]] = run

    def _log(self, event: Message) -> None:
        if event["job"] in self.runs:
            self.runs[event["job"]].log(event["row"])  # without step=: an explicit step drops rows silently

    def _end(self, event: Message) -> None:
        run = self.runs.pop(event["job"], None)
        if run is not None:
            run.summary["state"] = event["state"]
            run.finish(exit_code=1 if event["state"] == FAILED else 0)


EVENTS: dict[str, Callable[[Mirror, Message], None]] = {
    "queued": Mirror._queued,
    "started": Mirror._start,
    "row": Mirror._log,
    "ended": Mirror._end,
}


def settings(wandb: Any) -> Any:
    quiet = {"console": "off", "silent": True, "disable_git": True, "disable_code": True, "x_disable_stats": True}
    return wandb.Settings(**quiet, init_timeout=20, finish_timeout=30)


def scalars(event: Message, params: dict[str, Any]) -> dict[str, Any]:
    """Shallow scalars: W&B groups by these and by nothing else."""
    axes = {path.replace(".", "_"): label_of(value) for path, value in params.items()}
    return {"trial_id": event["job"], "role": event["role"], **axes}
