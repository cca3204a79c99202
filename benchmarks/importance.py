"""Is a parameter that does nothing said to do nothing, is one that matters found, and how long does it take?

    python -m benchmarks.importance --trials 40 --sweeps 100 --json
    python -m benchmarks.importance --trials 1000 --sweeps 1 --json

Simulated sweeps: five parameters of all kinds are drawn at random, of which one, the gate, shifts the value. `effect`:
standard deviation of that shift, in standard deviations of the noise.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.importance.evaluators import LEVEL, importances
from analysis.importance.search import Search
from analysis.importance.space import Parameter
from analysis.importance.surrogate import fit_surrogate, marginal_curves
from benchmarks import common
from mergenet.config import Config

NAME = "importance"
NOISE = 0.01
EFFECTS = (0.0, 1.0, 3.0)
GATE = "transfer.adapter.gate"
PARAMETERS = {
    one.path: one
    for one in (
        Parameter(GATE, (), 0.02, 0.5, log=True),
        Parameter("transfer.adapter.kind", ("linear", "lpka")),
        Parameter("transfer.t_cycle", (4, 8, 16)),
        Parameter("transfer.adapter.rank", (), 4, 16, whole=True, log=True),
        Parameter("transfer.pairs", tuple(f"{i}>head" for i in range(8))),
    )
}


def simulated(rng: np.random.Generator, trials: int, effect: float) -> Search:
    """A sweep's search without a folder; all trials are complete."""
    codes = {path: rng.random(trials) for path in PARAMETERS}
    shift = effect * NOISE * np.sqrt(12) * (codes[GATE] - 0.5)
    table = pd.DataFrame({"trial": [f"trial-{i:03d}" for i in range(trials)], "number": range(trials)})
    table["state"], table["epochs_done"] = "complete", 10
    table["value"] = 0.7 + shift + NOISE * rng.standard_normal(trials)
    for path, parameter in PARAMETERS.items():
        values = parameter.choices or parameter.grid(1000 if not parameter.whole else 13)
        table[path] = pd.Series([values[int(code * len(values))] for code in codes[path]], dtype=object)
    return Search(Path("simulated"), "target_val_top1", None, PARAMETERS, table, {}, {})


def outcome(search: Search) -> dict[str, float]:
    """Of one sweep, by evaluator: whether the gate was found, or anything else, and how many intervals reach chance."""
    started = time.process_time()
    table = importances(search)
    found: dict[str, float] = {"CPU seconds": time.process_time() - started}
    for name, rows in table.groupby("evaluator"):
        gate, others = rows[rows["parameter"] == GATE], rows[rows["parameter"] != GATE]
        found[f"{name} finds the gate"] = float((gate["p_value"] <= LEVEL).any())
        found[f"{name} finds another"] = float((others["p_value"] <= LEVEL).any())
        found[f"{name} intervals of others that reach chance"] = float((others["low"] <= others["chance_high"]).mean())
    return found


def measured(trials: int, sweeps: int, seed: int) -> dict[str, Any]:
    """effect -> the mean of `outcome` over the sweeps; and the CPU seconds of the forest with its curves."""
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {}
    for effect in EFFECTS:
        rows = [outcome(simulated(rng, trials, effect)) for _ in range(sweeps)]
        found[f"effect {effect:g}"] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    started = time.process_time()
    marginal_curves(fit_surrogate(simulated(rng, trials, 1.0)))
    return {"trials": trials, "sweeps": sweeps, **found, "CPU seconds of the forest": time.process_time() - started}


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "Importances of simulated sweeps whose truth is known.")
    parser.add_argument("--trials", type=common.count, default=40, help="complete trials a sweep (default: 40)")
    parser.add_argument("--sweeps", type=common.count, default=20, help="sweeps for each effect (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation (default: 0)")
    options = parser.parse_args(arguments)
    if options.trials < 10:
        parser.error(f"--trials must be at least 10, got {options.trials}")
    facts = common.machine(Config(method="none"))
    common.header(NAME, arguments, facts)
    figures = measured(options.trials, options.sweeps, options.seed)
    for name, value in figures.items():
        print(f"{name}: " + ("" if isinstance(value, dict) else f"{value:.4g}"))
        for inner, number in value.items() if isinstance(value, dict) else ():
            print(f"  {inner:<50} {number:.3f}")
    if options.json:
        common.footer(NAME, facts, [options.seed], figures)


if __name__ == "__main__":
    main()
