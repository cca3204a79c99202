#!/usr/bin/env bash
# Ray Tune 2.60.0: with reuse_actors=True a free actor goes to the oldest pending trial, although that one's own actor is starting; that actor is
# killed, and the trial that came after starts another. So more actors are started than trials run at a time.
#
# Behaviour: eight trials, three at a time, each of which can take over the actor of one that has ended. The actor of the third trial takes six
# seconds to start, as one does that loads a network or waits for a node. Meanwhile the first two trials end. With the default scheduler their actor is
# given to the third trial, whose own is killed just before it is ready, and a new one is started for the trial that would have had the free one. Where
# trials end more often than actors start, hardly any start comes to its end. With a scheduler that leaves the choice to Tune, three actors start.
# Way out: a scheduler whose choose_trial_to_run returns None. Tune then starts pending trials in order, and a free actor goes to the first that has none.
# Source: FIFOScheduler.choose_trial_to_run in ray/tune/schedulers/trial_scheduler.py; _maybe_add_actors and _maybe_reuse_cached_actor in
# ray/tune/execution/tune_controller.py ("If an actor has been scheduled for the trial already, this will remove the original actor").
# Seen: "FIFOScheduler: 4 actors" (7 in another run), "left to Tune: 3 actors"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "ray[tune]==2.60.0"
cat > "$folder/driver.py" <<'PY'
import time
from pathlib import Path

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler

folder = Path(__file__).parent
starts = folder / "starts"


class LeftToTune(FIFOScheduler):
    def choose_trial_to_run(self, tune_controller):
        return None


class Trial(tune.Trainable):
    def setup(self, config):
        with starts.open("a") as file:
            file.write(f"{config['number']}\n")
        if config["number"] == 2:
            time.sleep(6)
        self.count = 0

    def reset_config(self, config):
        self.count = 0
        return True

    def step(self):
        self.count += 1
        time.sleep(0.5)
        return {"done": self.count == 2}

    def save_checkpoint(self, checkpoint_dir):
        return None

    def load_checkpoint(self, checkpoint):
        pass


ray.init(address="local", num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
counts = []
for scheduler in (FIFOScheduler(), LeftToTune()):
    starts.write_text("")
    tune.Tuner(
        tune.with_resources(Trial, {"cpu": 1}),
        param_space={"number": tune.grid_search(list(range(8)))},
        tune_config=tune.TuneConfig(max_concurrent_trials=3, reuse_actors=True, scheduler=scheduler),
        run_config=tune.RunConfig(storage_path=str(folder / type(scheduler).__name__), verbose=0),
    ).fit()
    counts.append(len(starts.read_text().split()))
ray.shutdown()
print(f"FIFOScheduler: {counts[0]} actors")
print(f"left to Tune: {counts[1]} actors")
assert counts[0] > counts[1] == 3, "the behaviour has changed"
PY
cd "$folder"
export RAY_USAGE_STATS_ENABLED=0
"$folder/venv/bin/python" driver.py 2>/dev/null
