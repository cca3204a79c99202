#!/usr/bin/env bash
# Optuna 5.0.0 with a database: each look at a study reads all running trials from it again, and one `ask` looks.
#
# Behaviour: optuna.create_study(storage="sqlite:///...") wraps the database in a cache, whose finished trials are read
# once. Trials that run are read again with all their parameters and values by each get_trials(), and by each ask(), which
# looks for queued trials. So with hundreds of trials in flight, as a tuner on a cluster has them, a suggestion costs the
# process that makes it the more the more of them run, though nobody else writes to the study.
# Way out, where one process writes: answer from optuna.storages.InMemoryStorage, and pass what is written on to the
# database; or JournalStorage, which keeps all trials in memory.
# Source: _read_trials_from_remote_storage in optuna/storages/_cached_storage.py, _pop_waiting_trial_id in optuna/study/study.py.
# Seen (rows of the table `trials` that are read): "finished: 0 by get_trials, 1 by ask", "running: 100 by get_trials,
# 101 by ask"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "optuna==5.0.0" "SQLAlchemy==2.1.9"
cat > "$folder/look.py" <<'PY'
import optuna
from optuna.trial import TrialState
from sqlalchemy import event

from optuna.storages._rdb.models import TrialModel

optuna.logging.set_verbosity(optuna.logging.ERROR)
rows = []
event.listen(TrialModel, "load", lambda *_: rows.append(1))


def read(use):
    rows.clear()
    use()
    return len(rows)


def looks(kind, finish):
    study = optuna.create_study(storage=f"sqlite:///{kind}.db", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(100):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        if finish:
            study.tell(trial, state=TrialState.FAIL)
    study.get_trials(deepcopy=False)  # fills the cache
    found = read(lambda: study.get_trials(deepcopy=False)), read(study.ask)
    print(f"{kind}: {found[0]} by get_trials, {found[1]} by ask")
    return found


finished, running = looks("finished", True), looks("running", False)
assert max(finished) < 10 and min(running) >= 100, "the behaviour has changed"
PY
cd "$folder"
"$folder/venv/bin/python" look.py
