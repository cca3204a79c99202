#!/usr/bin/env bash
# Ray 2.60.0: two processes that are forked after `import ray.train` draw the same random IDs.
#
# Behaviour: a process imports ray, which draws nothing, and forks two others: each of these draws an ID of its own. Once
# it has imported ray.train, both draw the same ID, and go on to draw the same ones. An import that defines an actor
# class (@ray.remote on a class, as modules of ray.train and ray.data do) draws an ID for that class, and a fork copies
# the generator's state. Forked processes that belong to one cluster can thus give one ID to two tasks. Servers that load
# libraries and then fork (multiprocessing's forkserver with a preload, gunicorn's preload_app) come to that.
# Way out: import nothing of Ray before the fork but ray itself, or compare what two forked processes draw.
# Source: ActorClassID.from_random in python/ray/actor.py.
# Seen: "import ray: different", "import ray.train: the same"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "ray[train]==2.60.0"
cat > "$folder/draw.py" <<'PY'
import importlib
import os
import sys

for module in sys.argv[1:]:
    importlib.import_module(module)

from ray import WorkerID

drawn = []
for _ in range(2):
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, WorkerID.from_random().binary())
        os._exit(0)
    os.wait()
    drawn.append(os.read(reader, 100))
print("the same" if drawn[0] == drawn[1] else "different")
PY
export RAY_USAGE_STATS_ENABLED=0
alone=$("$folder/venv/bin/python" "$folder/draw.py" ray 2>/dev/null)
train=$("$folder/venv/bin/python" "$folder/draw.py" ray ray.train 2>/dev/null)
echo "import ray: $alone"
echo "import ray.train: $train"
[ "$alone" = different ] && [ "$train" = "the same" ] || { echo "the behaviour has changed"; exit 1; }
