"""The relay of a trial in a process of its own, on a real Ray: what it reports to Tune, and that it stays small."""

import os
import subprocess
import sys
from pathlib import Path

HEAVY = "ray.tune", "ray.train", "pandas", "torch", "optuna", "scipy"
SCRIPT = """
import sys
import ray
from pathlib import Path
from ray import tune

from sweeps.execution.job_queue import NAMESPACE, JobQueue
from sweeps.execution.local_ray import local_ray
from sweeps.execution.ray_cluster import quiet
from sweeps.execution.relay import Relay, light, relay_for
from sweeps.trials.jobs import Jobs
from tests.sweeps.base import space_of, sweep_config
from ray.tune.experiment.trial import _TrialInfo

SEARCH = {"transfer.t_cycle": {"choice": [2, 4]}}
assert issubclass(Relay, tune.Trainable)
jobs = Jobs(Path(sys.argv[1]), space_of(SEARCH), None)
with quiet(), local_ray(1), light():
    queue = ray.remote(num_cpus=0)(JobQueue).options(name="queue", namespace=NAMESPACE).remote()
    relay = ray.remote(num_cpus=0)(relay_for(jobs, "queue", sweep_config(SEARCH)))
    info = _TrialInfo.__new__(_TrialInfo)  # what Tune puts into each suggestion
    actor = relay.remote({"number": 0, "params": {"transfer.t_cycle": 2}, "__trial_info__": info})
    first = actor.train.remote()
    job = ray.get(queue.next_job.remote("slot", 0))
    queue.report.remote("slot", job["id"], {"epoch": 1, "target_val_top1": 0.5})
    report = ray.get(first)
    second = actor.train.remote()
    ray.get(queue.finish.remote("slot", job["id"], {"state": "complete", "error": None}))
    end = ray.get(second)
    failed = relay.remote({"number": 1, "params": {"transfer.t_cycle": 2}})
    third = failed.train.remote()
    ray.get(queue.next_job.remote("slot", 1))
    ray.get(queue.finish.remote("slot", "trial-001", {"state": "failed", "error": "out of memory"}))
    failure = ray.get(third)
    loaded = ray.get(actor.__ray_call__.remote(lambda self, names: [n for n in names if n in sys.modules], HEAVY))
print(job["config"]["transfer"]["t_cycle"], report["objective"], report["epoch"], report["training_iteration"])
print(end["__duplicate__"], end["done"], end["epoch"])
print(failure["failure"], failure["done"], sep=", ")
print("loaded:", *loaded)
"""


def test_a_relay_reports_what_the_queue_tells_and_loads_nothing_heavy(tmp_path: Path) -> None:
    """In a process of its own, because Tune must be imported before the relay."""
    command = [sys.executable, "-c", f"HEAVY = {HEAVY!r}\n{SCRIPT}", str(tmp_path)]
    spawned = os.environ | {"MERGENET_START_METHOD": "spawn"}  # a forked one has the fork server's modules, shared
    done = subprocess.run(command, env=spawned, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-4:] == ["2 0.5 1 1", "True True 1", "out of memory, True", "loaded:"], done.stdout
