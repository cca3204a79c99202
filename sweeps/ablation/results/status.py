"""How an ablation stands, for `mergenet sweep status`: only its folder is read, and a running one is not disturbed."""

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.names import COMPLETE, FAILED, RUNNING
from analysis.seeds import first_of
from mergenet.records.run_record import FINISHED
from sweeps.ablation.folder import load_folder, read_variants
from sweeps.report.status import KILLED, failed_text, is_locked, read_runs
from sweeps.report.wording import clock
from sweeps.trials.files import read_state
from sweeps.trials.sweep_dir import resume_command, shown_path, status_of


def read_status(folder: Path) -> dict[str, Any]:
    """All facts. Raises ConfigError if the folder holds no ablation."""
    ablation, (variants, _) = load_folder(folder), read_variants(folder)
    state, alive = read_state(folder), is_locked(folder)
    _, states, damaged = read_runs(folder, ())
    by_variant = {one.name: Counter[str]() for one in variants}
    for name, run_state in states.items():
        by_variant.setdefault(first_of(name), Counter())[run_state] += 1
    return {
        "name": ablation.name,
        "folder": str(shown_path(folder)),
        "status": KILLED if status_of(folder) == RUNNING and not alive else status_of(folder),
        "error": state.get("error"),
        "driver": alive,
        "seeds": ablation.num_seeds,
        "runs": len(variants) * ablation.num_seeds,
        "all_train": not ablation.race and ablation.top in (None, 1),
        "can_grow": ablation.top in (None, 1),
        "variants": {name: dict(counts) for name, counts in by_variant.items()},
        "damaged": damaged,
        "failed": [name for name, run_state in states.items() if run_state == FAILED],
        "seconds_spent": round(sum(state.get("seconds", {}).values()), 1),
    }


def status_lines(found: dict[str, Any]) -> Iterator[str]:
    """The facts as lines of text."""
    driver = "a driver is at work" if found["driver"] else "no driver"
    yield f"ablation {found['name']} in {found['folder']}: {found['status']} ({driver})"
    if found["error"]:
        yield f"  {found['error']}"
    complete = sum(counts.get(COMPLETE, 0) for counts in found["variants"].values())
    most = "" if found["all_train"] else "at most "
    count = len(found["variants"])
    yield f"runs: {complete} of {most}{found['runs']} complete, {count} variants with {most}{found['seeds']} seeds"
    for name, counts in found["variants"].items():
        others = [f", {number} {state}" for state, number in sorted(counts.items()) if state != COMPLETE]
        yield f"  {name}: {counts.get(COMPLETE, 0)} complete{''.join(others)}"
    for reason in found["damaged"].values():
        yield f"damaged, and left out: {reason}"
    yield f"took {clock(found['seconds_spent'])}"
    folder = shlex.quote(found["folder"])
    if found["failed"] and not found["driver"]:
        yield failed_text(found["failed"], found["folder"])
    if found["driver"]:
        yield f"next: wait, or look again with mergenet sweep status {folder} --watch 10"
    elif found["status"] == FINISHED:
        more = f", --seeds {2 * found['seeds']} adds seeds" if found["can_grow"] else ""
        yield f"next: mergenet sweep ablate {folder} prints its table{more}"
    else:
        yield f"next: {resume_command(found['folder'])}"
