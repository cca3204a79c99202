#!/usr/bin/env bash
# Ray 2.60.0: an actor's process loads the modules of methods that its class inherits, even where it never needs them.
#
# Behaviour: light.Light has the parent base.Base in the driver only; in a process without `base` its parent is object.
# Pickled by ray.cloudpickle it is a reference to light.Light, and unpickling it does not import `base`. As an actor it
# does: ray.remote wraps every method that inspect.getmembers finds, inherited ones too, and sends the wrappers by value,
# each with the inherited function, a reference into `base`. With a parent like ray.tune.Trainable that is Tune and pandas.
# Way out: a metaclass whose __dir__ leaves the inherited methods out.
# Source: ray/util/tracing/tracing_helper.py, _inject_tracing_into_class, called by ray/actor.py, _make_actor.
# Seen: "pickled: base loaded False", "actor: base loaded True", "actor with __dir__: base loaded False"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "ray==2.60.0"
cat > "$folder/base.py" <<'PY'
class Base:
    def inherited(self):
        return 0
PY
cat > "$folder/light.py" <<'PY'
import sys

Parent = sys.modules["base"].Base if "base" in sys.modules else object


class Own(type):
    def __dir__(cls):
        return [name for one in cls.__mro__ if one.__module__ != "base" for name in vars(one)]


class Light(Parent):
    def loaded(self):
        return "base" in sys.modules


class Listed(Parent, metaclass=Own):
    def loaded(self):
        return "base" in sys.modules
PY
cat > "$folder/driver.py" <<'PY'
import subprocess
import sys

import base  # before light
import light
import ray
from ray import cloudpickle

load = "import pickle, sys; pickle.loads(bytes.fromhex(sys.argv[1])); print('base' in sys.modules)"
pickled = subprocess.check_output([sys.executable, "-c", load, cloudpickle.dumps(light.Light).hex()], text=True).strip()
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
actors = [str(ray.get(ray.remote(kind).remote().loaded.remote())) for kind in (light.Light, light.Listed)]
ray.shutdown()
print("pickled: base loaded", pickled)
print("actor: base loaded", actors[0])
print("actor with __dir__: base loaded", actors[1])
assert [pickled, *actors] == ["False", "True", "False"], "the behaviour has changed"
PY
cd "$folder" && PYTHONPATH="$folder" RAY_USAGE_STATS_ENABLED=0 "$folder/venv/bin/python" driver.py
