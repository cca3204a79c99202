#!/usr/bin/env bash
# Ray 2.60.0: a node that was started with --num-cpus=0 starts one worker process at a time, however many cores it has.
#
# Behaviour: eight actors that need no CPU are created at once on a head without CPUs, as a head is set up on which nothing
# shall run. Their processes begin one after another, each when the one before has registered. How many begin together
# follows the node's CPU resource, which is a scheduling label, not its cores, and at least one starts. With
# RAY_worker_maximum_startup_concurrency=8, which Ray's documentation does not have, all eight begin together. So hundreds of light actors on such a head
# (proxies, relays, trackers) take minutes to start while its cores idle.
# Way out: that variable in the environment of `ray start`.
# Source: maximum_startup_concurrency in src/ray/raylet/main.cc and worker_pool.cc; ray-project/ray pull request 39253.
# Seen (seconds from the first to the last process's begin): "no CPUs: 2.3 s", "no CPUs, concurrency 8: 0.0 s"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "ray==2.60.0" "psutil==7.2.1"
cat > "$folder/driver.py" <<'PY'
import sys

import ray


@ray.remote(num_cpus=0)
class Light:
    def began(self):
        import psutil

        return psutil.Process().create_time()


ray.init(address="local", num_cpus=0, include_dashboard=False, log_to_driver=False)
actors = [Light.remote() for _ in range(8)]
began = sorted(ray.get([one.began.remote() for one in actors]))
ray.shutdown()
print(began[-1] - began[0])
PY
cd "$folder"
export RAY_USAGE_STATS_ENABLED=0
one=$("$folder/venv/bin/python" driver.py 2>/dev/null)
eight=$(RAY_worker_maximum_startup_concurrency=8 "$folder/venv/bin/python" driver.py 2>/dev/null)
"$folder/venv/bin/python" - "$one" "$eight" <<'PY'
import sys

one, eight = map(float, sys.argv[1:])
print(f"no CPUs: {one:.1f} s")
print(f"no CPUs, concurrency 8: {eight:.1f} s")
assert eight < one / 4, "the behaviour has changed"
PY
