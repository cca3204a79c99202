#!/usr/bin/env bash
# Ray 2.60.0: what a Ray Train run has reserved stays reserved after its controller is killed, if Ray has no dashboard.
#
# Behaviour: a trainer whose controller process is killed (SIGKILL, as when memory runs out) raises ActorDiedError from
# fit(), and its workers end. Its placement group stays, and with it all their CPUs, as long as the driver lives: a
# placement group that an actor has made ends once that actor and the job have ended. Ray Train starts a detached actor
# that is to remove it (PlacementGroupCleaner), but this asks the State API, which is part of the dashboard, and
# "continues to monitor" while there is none. The next fit() in the same driver then waits for CPUs that are idle.
# With a dashboard they are free again within seconds.
# Way out: remove_placement_group for the ones of a run whose fit() has raised something else than WorkerGroupError.
# Source: ray/train/v2/_internal/execution/controller/placement_group_cleaner.py; gcs_placement_group_manager.cc.
# Seen (state of the placement group, free CPUs of 2): "no dashboard: CREATED 0.0", "dashboard: REMOVED 2.0"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "ray[default,train]==2.60.0"
cat > "$folder/driver.py" <<'PY'
import os
import pathlib
import signal
import sys
import threading
import time

import ray
from ray.train import ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util import placement_group_table


def train():
    time.sleep(600)


def kill_controller():
    """The one below this driver: other Rays may run on the machine."""
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        parent = number = int(path.parent.name)
        try:
            if not path.read_bytes().startswith(b"ray::TrainController"):
                continue
            while parent not in (0, os.getpid()):
                stat = pathlib.Path(f"/proc/{parent}/stat").read_text()
                parent = int(stat.rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent:
            os.kill(number, signal.SIGKILL)


def kill_later():
    while not any(group["state"] == "CREATED" for group in placement_group_table().values()):
        time.sleep(0.5)
    time.sleep(10)
    kill_controller()


ray.init(address="local", num_cpus=2, include_dashboard=sys.argv[1] == "dashboard", log_to_driver=False)
threading.Thread(target=kill_later, daemon=True).start()
try:
    DataParallelTrainer(train, scaling_config=ScalingConfig(num_workers=2)).fit()
except ray.exceptions.ActorDiedError:
    time.sleep(20)
    print(*(group["state"] for group in placement_group_table().values()), ray.available_resources().get("CPU", 0.0))
ray.shutdown()
PY
cd "$folder"
export RAY_USAGE_STATS_ENABLED=0
without=$("$folder/venv/bin/python" driver.py none 2>/dev/null | tail -n 1)
with=$("$folder/venv/bin/python" driver.py dashboard 2>/dev/null | tail -n 1)
echo "no dashboard: $without"
echo "dashboard: $with"
[ "$without" = "CREATED 0.0" ] && [ "$with" = "REMOVED 2.0" ] || { echo "the behaviour has changed"; exit 1; }
