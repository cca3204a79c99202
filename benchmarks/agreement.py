"""From which epoch on is the ranking of a sweep's trials that of their last epoch? Spearman's correlation of each epoch
with the last.

    mergenet sweep run vqa --dir FOLDER --set scheduler=none --set sampler=random --set confirm_seeds=0
    python -m benchmarks.agreement FOLDER --json

Over all complete trials, by the best value so far of the selecting metric. Stopping trials before the epoch from which
on the correlation is high is stopping at random; `grace_epochs: auto` measures it on the first five.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.importance.curves import agreement
from analysis.measures import best_so_far
from analysis.names import COMPLETE
from analysis.seeds import is_replicate
from benchmarks import common
from mergenet.config.loading import load_config
from mergenet.errors import DataError, UserError
from sweeps.config.loading import load_sweep
from sweeps.trials.results import ended_runs
from sweeps.trials.sweep_dir import BASE_FILE

NAME = "agreement"


def measured(folder: Path) -> dict[str, Any]:
    """Raises UserError if the folder holds no sweep, or fewer than three trials that trained to their end."""
    sweep = load_sweep(str(folder / "sweep.yaml"))
    runs = {name: run for name, run in ended_runs(folder).items() if not is_replicate(name)}
    curves = [best_so_far(rows, sweep.objective) for state, rows in runs.values() if state == COMPLETE]
    epochs = max(map(len, curves), default=0)
    trials = [curve for curve in curves if len(curve) == epochs]  # a first value may be no number
    if len(trials) < 3:
        raise DataError(f"{folder} must hold at least 3 trials that trained to their end, got {len(trials)}")
    found = agreement(trials, epochs)
    return {"sweep": sweep.name, "metric": sweep.objective, "trials": len(trials), "agreement": found}


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "Spearman's correlation of each epoch's metric with that of the last.")
    parser.add_argument("folder", type=Path, help="of a sweep, best without early stopping")
    options = parser.parse_args(arguments)
    try:
        config, figures = load_config(str(options.folder / BASE_FILE)), measured(options.folder)
    except UserError as error:
        parser.error(str(error))
    facts = common.machine(config)
    common.header(NAME, arguments, facts)
    print(f"{figures['sweep']}, {figures['metric']}, {figures['trials']} trials; after epoch")
    for epoch, value in enumerate(figures["agreement"], start=1):
        print(f"  {epoch:>3}  {value:+.2f}")
    if options.json:
        common.footer(NAME, facts, [config.seed], figures)


if __name__ == "__main__":
    main()
