#!/usr/bin/env bash
# Ray 2.60.0, Linux: a Ray that ray.init() starts ends with the thread that called it, and 60 s later the whole program.
#
# Behaviour: ray.init() in a thread that then ends (a pool of threads, an executor of asyncio, a handler of a server)
# returns as it should, and ray.is_initialized() goes on to be True. But the GCS and the raylet are killed as the thread
# ends, and the next call waits until Ray says "Failed to connect to GCS within 60 seconds" and ends the process.
# Ray has its processes killed with their parent by prctl(PR_SET_PDEATHSIG), for which Linux's parent is a thread:
# "the parent in this case is considered to be the thread that created this process" (man 2 PR_SET_PDEATHSIG).
# Way out: the thread that calls ray.init() waits until Ray is to stop.
# Source: ray/_private/utils.py set_kill_on_parent_death_linux; ray/_private/services.py start_ray_process.
# Seen (of GCS and raylet, how many run): "while the thread runs: 2", "after it: 0, initialized: True"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "ray==2.60.0"
cat > "$folder/driver.py" <<'PY'
import os
import pathlib
import threading
import time

import ray


def running():
    """How many of this process's children are a GCS or a raylet that has not ended."""
    count = 0
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        count += int(parent) == os.getpid() and state != "Z" and name in ("gcs_server", "raylet")
    return count


def start():
    ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level="ERROR")
    started.set()
    leave.wait()


started, leave = threading.Event(), threading.Event()
thread = threading.Thread(target=start)
thread.start()
started.wait()
time.sleep(3)
print("while the thread runs:", running(), flush=True)
leave.set()
thread.join()
time.sleep(3)
print(f"after it: {running()}, initialized: {ray.is_initialized()}", flush=True)
os._exit(0)
PY
cd "$folder"
export RAY_USAGE_STATS_ENABLED=0
seen=$("$folder/venv/bin/python" driver.py 2>/dev/null)
echo "$seen"
[ "$seen" = $'while the thread runs: 2\nafter it: 0, initialized: True' ] || { echo "the behaviour has changed"; exit 1; }
