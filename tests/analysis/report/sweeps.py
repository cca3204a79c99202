"""Sweep folders with everything that a report tells of: a search whose truth is known, no transfer, a confirmation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.names import CONTROL_OF
from mergenet.config.yaml12 import dump_yaml_values
from mergenet.records.sealed import write_record
from tests.analysis.folders import make_run
from tests.analysis.importance.sweeps import BASE, METHOD, SEARCH, by_gate, drawn, write_sweep

NOISE = (0.001, -0.002, 0.002, -0.001, 0.003, -0.003, 0.0015, -0.0015)  # of the seeds, around a gain
STATES = ["complete"] * 24 + ["pruned"] * 6 + ["failed", "running"]


def reported(
    folder: Path,
    gains: Mapping[str, float] | None = None,
    seeds: int = 6,
    states: Sequence[str] = STATES,
    status: str = "finished",
    value: Any = by_gate,
    points: Sequence[dict[str, Any]] | None = None,
    search: dict[str, Any] | None = None,
    base: dict[str, Any] | None = None,
) -> Path:
    """gains: test gain over no transfer of the best ("best") and of controls by name; nothing is confirmed without."""
    points = drawn(len(states)) if points is None else points
    write_sweep(folder, points, value, states, search, base)
    sweep = {"name": "known", "search": search or SEARCH, "confirm_seeds": seeds if gains else 0}
    (folder / "sweep.yaml").write_text(dump_yaml_values(sweep))
    write_record(folder / "sweep.json", {"status": status})
    about = {"number": len(points), "state": "complete", "params": {}}
    make_run(folder / "trials/baseline", (0.4, 0.5), 0.5, about | {"role": "baseline"}, {"method": "none"})
    confirm(folder, gains or {}, seeds, points, states, value)
    return folder


def confirm(
    folder: Path, gains: Mapping[str, float], seeds: int, points: Sequence[Any], states: Sequence[str], value: Any
) -> None:
    """The runs with fresh seeds, as far as there are gains."""
    whole = [point for point, state in zip(points, states, strict=False) if state == "complete"]
    best = max(whole, key=value, default={})
    roles = {"best": "confirm_best"} | {control: role for role, control in CONTROL_OF.items()}
    for place in range(seeds if gains else 0):
        seed, none = 101 + place, 0.5 + 0.001 * place
        about = {"number": place, "state": "complete", "seed": seed}
        plain = about | {"role": "confirm_none", "params": {}}
        make_run(folder / f"trials/confirm-none-{place + 1}", (none,), none, plain, {"method": "none", "seed": seed})
        for name, gain in gains.items():
            reached = none + gain + NOISE[place % len(NOISE)]
            run = folder / f"trials/confirm-{name}-{place + 1}"
            settings = {"seed": seed} | ({METHOD: best[METHOD]} if METHOD in best else {})
            make_run(run, (reached,), reached, about | {"role": roles[name], "params": best}, settings)


__all__ = ["BASE", "SEARCH", "STATES", "confirm", "reported"]
