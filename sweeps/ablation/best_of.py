"""The best K trials of a sweep as variants beside no transfer: `mergenet sweep confirm`."""

from pathlib import Path
from typing import Any

from analysis.names import TRIAL, best_first, mode_of, portable_config
from analysis.trial_file import begun_runs, read_outcome
from mergenet.config import Config
from mergenet.config.loading import load_config, parse_config
from mergenet.errors import ConfigError
from mergenet.records.run_record import ADAPTER_PARAMETERS
from sweeps.ablation.centre import Centre, placed
from sweeps.ablation.variants import LeftOut, Variant, folder_name
from sweeps.planning.plan import seeds_after
from sweeps.trials.jobs import without_transfer
from sweeps.trials.results import best_record, read_trials
from sweeps.trials.sweep_dir import BASE_FILE, check_metric, load_resumable, shown_path

NO_TRANSFER = "no transfer"


def best_trials(folder: Path, top: int) -> tuple[Centre, list[Variant], list[LeftOut]]:
    """The best of the sweep as a centre; no transfer with its recipe, then the trials by search value, the best first.

    A trial without transfer is none. Raises ConfigError if the folder holds no sweep or no trial that finished,
    CheckpointError if one of its runs is damaged.
    """
    sweep = load_resumable(folder)
    check_metric(sweep, folder)
    for run in begun_runs(folder):
        read_outcome(run)  # the best may be one that is damaged, or has lost its trial.json
    mode = mode_of(sweep.objective)
    trials = [trial for trial in read_trials(folder, sweep, TRIAL) if trial["finished"] and trial["value"] is not None]
    ranked = sorted(
        (trial for trial in trials if not trial["broken"]),
        key=lambda trial: best_first(trial["value"], mode, trial[ADAPTER_PARAMETERS], trial["number"]),
    )
    base = load_config(str(folder / BASE_FILE)).model_dump(mode="json")
    first = seeds_after(base, sweep.seeds_per_trial)[-1]
    found: list[Variant] = []
    left_out: list[LeftOut] = []
    for trial in ranked:
        config = parse_config(portable_config(best_record(folder, trial).config), str(folder))
        if config.method == "none":
            left_out.append(LeftOut(trial["trial_id"], "it has no transfer itself"))
        elif len(found) < top:
            found.append(_variant(trial, placed(config, first)))
    if not found:
        raise ConfigError(f"{shown_path(folder)} must hold a finished trial with transfer to confirm, got none")
    if len(found) < top:
        left_out.append(LeftOut(f"top {top}", f"the sweep has {len(found)} finished trials with transfer"))
    best = Config.model_validate(found[0].config)
    none = parse_config(without_transfer(found[0].config), str(folder)).model_dump(mode="json")
    reference = Variant(folder_name(NO_TRANSFER, set()), NO_TRANSFER, {"method": "none"}, none)
    return Centre(best, f"{sweep.name}-best"[:100], sweep=folder.absolute()), [reference, *found], left_out


def _variant(trial: dict[str, Any], config: Config) -> Variant:
    name = str(trial["trial_id"])
    return Variant(name, name, trial["params"], config.model_dump(mode="json"), float(trial["value"]))
