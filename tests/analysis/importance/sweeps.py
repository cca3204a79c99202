"""Sweep folders whose truth is known, written file by file as a sweep writes them."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mergenet.config.yaml12 import dump_yaml_values
from tests.analysis.folders import PAIRS, make_run

GATE, RANK, METHOD, WEIGHT = "transfer.adapter.gate", "transfer.adapter.rank", "method", "distillation.weight"
SEARCH = {GATE: {"float": [0.02, 0.5], "log": True}, RANK: {"int": [2, 16]}}
BOUND = {"adapter_parameters": {"max": 1000}}
BASE = {"epochs": 4, "method": "mergenet", "transfer": {"pairs": PAIRS, "adapter": {"gate": 0.02, "rank": 2}}}

Values = dict[str, Any]


def write_sweep(
    folder: Path,
    drawn: Sequence[Values],
    value: Callable[[Values], float],
    states: Sequence[str] = (),
    search: Values | None = None,
    base: Values | None = None,
    parameters: Callable[[Values], int] = lambda _: 1000,
    **settings: Any,
) -> Path:
    """A sweep of four epochs whose trials reach `value` of what they drew at the last, three quarters of it before.

    states: of each trial, complete if not given; a pruned one has two epochs, a failed and a running one has one.
    parameters: of the adapters, by what was drawn; settings: more of sweep.yaml.
    """
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(dump_yaml_values({"name": "known", "search": search or SEARCH, **settings}))
    (folder / "base.yaml").write_text(dump_yaml_values(base or BASE))
    for number, params in enumerate(drawn):
        state = states[number] if number < len(states) else "complete"
        reached = value(params)
        epochs = {"complete": 4, "pruned": 2}.get(state, 1)
        curve = tuple(reached * share for share in (0.25, 0.5, 0.75, 1.0)[:epochs])
        trial = {"role": "trial", "number": number, "state": state, "params": params}
        own = {path: v for path, v in params.items() if path in (GATE, RANK, METHOD)}
        test = 0.5 if state == "complete" else None
        more = {"status": state} if state in ("running", "failed") else {}
        make_run(folder / "trials" / f"trial-{number:03d}", curve, test, trial, own, parameters(params), more=more)
    return folder


def drawn(count: int, seed: int = 1) -> list[Values]:
    """Gates and ranks of SEARCH, drawn as a random sampler would."""
    rng = np.random.default_rng(seed)
    gates = np.exp(rng.uniform(math.log(0.02), math.log(0.5), count))
    return [{GATE: float(g), RANK: int(r)} for g, r in zip(gates, rng.integers(2, 17, count), strict=True)]


def by_gate(params: Values) -> float:
    """A value that the gate decides alone."""
    return 0.5 + 0.1 * math.log(params[GATE] / 0.02) / math.log(25)


def by_wide_gate(params: Values) -> int:
    """Adapter parameters: a gate above 0.1 breaks BOUND."""
    return 5000 if params[GATE] > 0.1 else 100
