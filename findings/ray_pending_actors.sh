#!/usr/bin/env bash
# Ray 2.60.0: while actors with a runtime environment wait for their processes to start, the raylet asks the node's runtime environment agent for each
# of them again and again, with a TCP connection each time. With many waiting that takes most of a core of the head, and its free ports.
#
# Behaviour: 60 actors, which differ from Ray's defaults in one variable of their environment, on a head without CPUs, where one process starts at a
# time. When all run some 60 connections to the agent's port are behind (TIME_WAIT) for each actor that was started; if no more than four are
# asked for at a time, a tenth of that. With some ten thousand behind, Linux tries one port after another for each new connection: with 250 waiting, a
# profile of the raylet's main thread, which was busy for 50 to 75 % of the time, was in __inet_hash_connect for four fifths of that (not repeated here).
# Way out: ask for few actors at a time, and for the next when one of them runs.
# Source: observed; WorkerPool::PopWorker and RuntimeEnvAgentClient in src/ray/raylet (each try at starting a worker first asks for its environment).
# Seen: "60 at once: 3601 connections", "4 at a time: 409 connections"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "ray==2.60.0"
cat > "$folder/driver.py" <<'PY'
import sys
from pathlib import Path

import ray

COUNT, TIME_WAIT = 60, "06"


@ray.remote(num_cpus=0)
class Idle:
    def ready(self):
        return True


def behind(port):
    """Connections to the port that are closed and not yet forgotten."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] == TIME_WAIT and f"{port:04X}" in (row[1][-4:], row[2][-4:]) for row in rows)


at_once = int(sys.argv[1])
ray.init(
    address="local", num_cpus=0, include_dashboard=False, logging_level="ERROR", log_to_driver=False,
    runtime_env={"env_vars": {"MARK": "1"}},
)  # fmt: skip
port = ray.nodes()[0]["RuntimeEnvAgentPort"]
actors, starting = [], []
while len(actors) < COUNT:
    while len(starting) < at_once and len(actors) < COUNT:
        actors.append(Idle.remote())
        starting.append(actors[-1].ready.remote())
    starting = ray.wait(starting)[1]
ray.get(starting)
Path("found").write_text(str(behind(port)))  # standard output has the raylet's messages, too
ray.shutdown()
PY
cd "$folder"
export RAY_USAGE_STATS_ENABLED=0
"$folder/venv/bin/python" driver.py 60 >/dev/null 2>&1
many=$(cat found)
"$folder/venv/bin/python" driver.py 4 >/dev/null 2>&1
few=$(cat found)
echo "60 at once: $many connections"
echo "4 at a time: $few connections"
[ "$many" -gt $((3 * few)) ] || { echo "the behaviour has changed"; exit 1; }
