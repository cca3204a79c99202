"""Warm start: what earlier sweeps found is told truthfully, or left out with the reason, or refused in one line."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from analysis.measures import best_so_far
from mergenet.errors import ConfigError
from mergenet.records.sealed import read_record, write_record
from sweeps.config.loading import dump_sweep, load_sweep, parse_sweep
from sweeps.planning.checks import plan_sweep
from sweeps.planning.cost import estimate
from sweeps.planning.plan import Plan
from sweeps.report.plan_text import plan_lines, warm_lines
from sweeps.samplers.history import WARM
from sweeps.study.study import SweepStudy
from sweeps.study.warm_start import WARM_FILE, WarmStart, load_warm_start, write_warm_start
from sweeps.trials.sweep_dir import load_resumable
from tests.sweeps.base import CONV, HEAD, MEASURED
from tests.sweeps.folders import VAL, planned, write_rows, write_sweep, write_trial
from tests.sweeps.spaces import CYCLE, GATE, GATES, RANK

PAIRS = "transfer.pairs"


def write_seed(first: Path, values: list[float | None], state: str) -> None:
    """The second seed of a trial."""
    run = Path(shutil.copytree(first, f"{first}-seed-2"))
    write_rows(run, values, state, 2000)
    trial = read_record(run / "trial.json")
    write_record(run / "trial.json", trial | {"role": "replicate", "state": state, "trial_id": run.name})


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """Twelve trials whose value is best at a gate of 0.5, one stopped early, one failed."""
    gates = [0.22 + 0.03 * number for number in range(12)]
    trials: list[tuple[Any, ...]] = [({GATE: gate}, [0.1, 1 - abs(gate - 0.5)]) for gate in gates]
    trials += [({GATE: 0.3}, [0.08], "pruned"), ({GATE: 0.31}, [], "failed")]
    return write_sweep(tmp_path / "earlier", planned(tmp_path, GATES), trials)


def opened(plan: Plan, folder: Path) -> SweepStudy:
    folder.mkdir(exist_ok=True)
    return SweepStudy(plan.sweep, plan.space, "max", folder, plan.warm.trials)


def refused(tmp_path: Path, search: dict[str, Any] = GATES, base: dict[str, Any] | None = None, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, search, base, **changes)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"constraints": {"adapter_parameters": {"min": 2000}, VAL: {"min": 0.55}}},
        {"minimize": ["adapter_parameters"]},
        {"minimize": ["adapter_parameters"], "constraints": {VAL: {"min": 0.55}}},
    ],
)
def test_a_told_trial_is_in_the_study_as_if_this_sweep_had_trained_it(tmp_path: Path, asked: dict[str, Any]) -> None:
    trials: list[tuple[Any, ...]] = [({GATE: 0.3}, [0.6, 0.5]), ({GATE: 0.5}, [0.4], "pruned")]
    folder = write_sweep(tmp_path / "earlier", planned(tmp_path, GATES), trials)
    plan = planned(tmp_path, GATES, warm_start=[str(folder)], **asked)
    told = opened(plan, tmp_path / "told").study.trials
    (tmp_path / "trained").mkdir()
    study = SweepStudy(plan.sweep, plan.space, "max", tmp_path / "trained")
    for index, (params, curve, state) in enumerate([(0.3, [0.6, 0.6], "COMPLETE"), (0.5, [0.4], "PRUNED")]):
        study.study.enqueue_trial({GATE: params})
        drawn = study.draw(index)
        for epoch, value in enumerate(curve, start=1):
            study.report(drawn, epoch, value)
        study.tell(drawn, TrialState[state], curve[-1], {"adapter_parameters": 1000.0})
    assert len(told) == 2
    for one, other in zip(told, study.study.trials, strict=True):
        assert (one.state, one.values, one.params) == (other.state, other.values, other.params)
        assert one.distributions == other.distributions
        assert one.intermediate_values == other.intermediate_values
        assert one.system_attrs.get("constraints") == other.system_attrs.get("constraints")
        own = {"index", "params", "trial_id", WARM}
        assert drop(one.user_attrs, own) == drop(other.user_attrs, own)


def drop(values: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def test_seconds_of_another_sweep_are_not_told(tmp_path: Path, earlier: Path) -> None:
    text = refused(tmp_path, warm_start=[str(earlier)], constraints={"step_seconds": {"max": 1}})
    assert text.startswith("warm_start must be without step_seconds in minimize and constraints, because another")


def test_trials_of_several_seeds_are_told_as_their_means(tmp_path: Path, earlier: Path) -> None:
    two: dict[str, Any] = {"seeds_per_trial": 2}
    trials: list[tuple[Any, ...]] = [
        ({GATE: 0.3}, [0.2, 0.6]),
        ({GATE: 0.35}, [0.2, 0.6]),
        ({GATE: 0.4}, [0.9, 0.9]),
        ({GATE: 0.5}, [0.4], "pruned"),
        ({GATE: 0.55}, [0.3, 0.9], "pruned"),  # stopped while its first seed finished
    ]
    folder = write_sweep(tmp_path / "two", planned(tmp_path, GATES, **two), trials)
    write_seed(folder / "trials" / "trial-000", [0.1, 0.2], "complete")
    write_seed(folder / "trials" / "trial-001", [0.1], "failed")
    plan = planned(tmp_path, GATES, warm_start=[str(folder)], minimize=["adapter_parameters"], **two)
    whole, stopped, late = plan.warm.trials
    assert (whole.name, whole.values, whole.complete) == ("trial-000", {1: 0.2, 2: pytest.approx(0.4)}, True)
    assert whole.measured == {"adapter_parameters": 1500.0}
    assert (stopped.name, stopped.values, stopped.complete) == ("trial-003", {1: 0.4}, False)
    assert (late.values, late.complete) == ({1: 0.3}, False), "at the last epoch others have means"
    assert plan.warm.left_out == {str(folder): {"failed": 1, "still training": 1}}
    text = refused(tmp_path, warm_start=[str(earlier)], **two)
    assert text == f"warm_start must name sweeps with seeds_per_trial 2, got '{earlier}' with 1; leave it out"


def test_a_first_seed_stopped_in_its_only_epoch_has_no_value(tmp_path: Path) -> None:
    """Its value would stand where other trials have means."""
    short: dict[str, Any] = {"base": {"epochs": 1}, "seeds_per_trial": 2}
    folder = write_sweep(tmp_path / "short", planned(tmp_path, GATES, **short), [({GATE: 0.3}, [0.5], "pruned")])
    warm = planned(tmp_path, GATES, warm_start=[str(folder)], **short).warm
    assert (warm.trials, warm.left_out) == ((), {str(folder): {"without a value": 1}})


@pytest.mark.parametrize("sampler", ["tpe", "auto"])
def test_the_sampler_models_from_the_first_trial_on(tmp_path: Path, earlier: Path, sampler: str) -> None:
    """Without the earlier sweep the first draws are random; with it they are near what was good there."""
    drawn = {}
    for name, warm in (("cold", []), ("warm", [str(earlier)]), ("again", [str(earlier)])):
        plan = planned(tmp_path, GATES, sampler=sampler, num_trials=30, warm_start=warm)
        study = opened(plan, tmp_path / name)
        number = 4 if sampler == "auto" else 8  # of which each is a second of fitting
        drawn[name] = [float(study.draw(index).params[GATE] or 0) for index in range(number)]
    assert drawn["warm"] == drawn["again"], "deterministic"
    assert not set(drawn["cold"]) & set(drawn["warm"])
    far = {name: sum(abs(gate - 0.5) for gate in gates) for name, gates in drawn.items()}
    assert far["warm"] < 0.6 * far["cold"]


def test_earlier_trials_are_no_trials_of_this_sweep(tmp_path: Path, earlier: Path) -> None:
    plan = planned(tmp_path, GATES, warm_start=[str(earlier)])
    study = opened(plan, tmp_path / "study")
    assert study.known() == []
    assert study.curves() == ({}, {})
    assert study.draw(0).index == 0
    assert [one.index for one in study.known()] == [0]
    trials = study.study.trials[:13]
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 12 + [TrialState.PRUNED]
    assert trials[0].user_attrs == {WARM: f"{earlier}/trial-000"}
    assert trials[0].value == pytest.approx(0.72)
    assert trials[12].intermediate_values == {1: 0.08}
    assert (trials[12].value, trials[12].params) == (0.08, {GATE: 0.3})
    opened(plan, tmp_path / "study")
    assert len(study.study.trials) == 14, "they are added once"


def test_a_resumed_sweep_does_not_need_the_earlier_folder(tmp_path: Path, earlier: Path) -> None:
    plan = planned(tmp_path, GATES, warm_start=[str(earlier)])
    folder = write_sweep(tmp_path / "now", plan, [])
    write_warm_start(folder, plan.warm)
    shutil.rmtree(earlier)
    resumed = plan_sweep(load_resumable(folder))
    assert resumed.warm == WarmStart()
    assert load_warm_start(folder) == plan.warm
    assert load_sweep(str(folder / "sweep.yaml")).warm_start == (str(earlier),), "what was asked for stays written"
    half = load_warm_start(folder).trials[:5]  # a driver was killed while it told them
    SweepStudy(plan.sweep, plan.space, "max", folder, half)
    study = SweepStudy(plan.sweep, plan.space, "max", folder, load_warm_start(folder).trials)
    names = [trial.user_attrs[WARM] for trial in study.study.trials]
    assert len(names) == len(set(names)) == 13


def test_without_a_warm_start_nothing_is_written(tmp_path: Path) -> None:
    write_warm_start(tmp_path, WarmStart())
    assert not (tmp_path / WARM_FILE).exists()
    assert load_warm_start(tmp_path) == WarmStart()


def test_distributions_are_those_that_the_space_asks_for(tmp_path: Path) -> None:
    """Cut ranks, labels of pairs, steps, branches: else TPE would not see them, or Optuna refuse the next draw."""
    narrow = {"source": "conv1", "target": "features.0.0", "align": "none"}  # rank 3 at most
    search = {
        "method": {"choice": ["mergenet", "none"]},
        PAIRS: {"choice": [[CONV], [narrow]], "when": {"method": "mergenet"}},
        RANK: {"choice": [2, 4, 8], "when": {"method": "mergenet"}},
        CYCLE: {"int": [2, 9], "step": 2, "when": {"method": "mergenet"}},
    }
    before = planned(tmp_path, search)
    conv, thin = before.space.options(PAIRS)
    trials: list[tuple[Any, ...]] = [
        ({"method": "mergenet", PAIRS: conv, RANK: 8, CYCLE: 4}, [0.5]),
        ({"method": "mergenet", PAIRS: thin, RANK: 2, CYCLE: 8}, [0.6]),
        ({"method": "none"}, [0.7]),
    ]
    write_sweep(tmp_path / "earlier", before, trials)
    study = opened(planned(tmp_path, search, warm_start=[str(tmp_path / "earlier")], num_trials=20), tmp_path / "study")
    told = [trial for trial in study.study.trials if WARM in trial.user_attrs]
    assert [set(trial.params) for trial in told] == [
        {"method", PAIRS, RANK, CYCLE},
        {"method", PAIRS, f"{RANK} (up to 2)", CYCLE},
        {"method"},
    ]
    known = {name: one for trial in told for name, one in trial.distributions.items()}
    for index in range(20):
        study.draw(index)
    asked = {name: one for trial in study.study.trials[-20:] for name, one in trial.distributions.items()}
    assert known == asked


def test_another_space_over_the_same_base(tmp_path: Path) -> None:
    """What was searched there and is not here must be as in the base; what is searched here was the base's there."""
    search = {GATE: {"float": [0.05, 0.6]}, CYCLE: {"choice": [2, 4]}}
    trials: list[tuple[Any, ...]] = [
        ({GATE: 0.3, CYCLE: 2}, [0.5]),
        ({GATE: 0.3, CYCLE: 4}, [0.6]),
        ({GATE: 0.5, CYCLE: 2}, [0.7]),
    ]
    folder = write_sweep(tmp_path / "earlier", planned(tmp_path, search), trials)
    now = {GATE: {"float": [0.1, 0.4]}, RANK: {"int": [2, 8]}}
    warm = planned(tmp_path, now, warm_start=[str(folder)]).warm
    assert [trial.params for trial in warm.trials] == [{GATE: 0.3, RANK: 4}]
    assert warm.left_out == {str(folder): {"outside this space": 2}}
    now = {GATE: {"float": [0.1, 0.4]}, RANK: {"int": [5, 8]}}
    assert planned(tmp_path, now, warm_start=[str(folder)]).warm.trials == ()


def test_what_a_branch_here_would_not_draw_must_be_the_bases(tmp_path: Path) -> None:
    beside = {"method": {"choice": ["mergenet", "none"]}, CYCLE: {"choice": [2, 4]}}
    trials: list[tuple[Any, ...]] = [
        ({"method": "none", CYCLE: 2}, [0.5]),
        ({"method": "none", CYCLE: 4}, [0.5]),
        ({"method": "mergenet", CYCLE: 4}, [0.6]),
    ]
    folder = write_sweep(tmp_path / "earlier", planned(tmp_path, beside), trials)
    now = beside | {CYCLE: {"choice": [2, 4], "when": {"method": "mergenet"}}}
    warm = planned(tmp_path, now, warm_start=[str(folder)]).warm
    assert [trial.params for trial in warm.trials] == [{"method": "none"}, {"method": "mergenet", CYCLE: 4}]


def test_pairs_are_known_by_what_they_are_however_they_were_written(tmp_path: Path) -> None:
    before = planned(tmp_path, {PAIRS: {"choice": [[CONV], [HEAD]]}})
    conv, head = before.space.options(PAIRS)
    folder = write_sweep(tmp_path / "earlier", before, [({PAIRS: conv}, [0.5]), ({PAIRS: head}, [0.6])])
    now = {PAIRS: {"choice": [[HEAD | {"direction": "to_target"}]]}}
    plan = planned(tmp_path, now, warm_start=[str(folder)])
    configs = [plan.space.config(trial.params) for trial in plan.warm.trials]
    assert [config.transfer.written_pairs[0].target for config in configs] == ["classifier.1"]


def test_what_is_left_out_is_counted(tmp_path: Path, earlier: Path) -> None:
    plan = planned(tmp_path, GATES)
    more: list[tuple[Any, ...]] = [
        ({GATE: 0.22}, [0.3], "pruned"),  # trained in full by the other sweep
        ({GATE: 0.4}, [0.3], "running"),
        ({GATE: 0.41}, [None, None]),
        ({GATE: 0.42}, [0.9, None, 0.8]),
    ]
    other = write_sweep(tmp_path / "other", plan, more)
    write_trial(other, plan, 9, {GATE: 0.43}, [0.5])
    (other / "trials" / "trial-009" / "config.yaml").write_text("- damaged")
    warm = planned(tmp_path, GATES, warm_start=[str(other), str(earlier)]).warm
    assert warm.left_out == {
        str(other): {"repeated": 1, "still training": 1, "without a value": 1, "not readable": 1},
        str(earlier): {"failed": 1},
    }
    assert warm.trials[0].values == {1: 0.9, 3: 0.9}, "the best so far, as trials report it"
    assert list(warm_lines(warm.facts())) == [
        f"warm start: 1 trials of {other} (1 complete, 0 stopped early); left out: 1 repeated, 1 still training, "
        "1 without a value, 1 not readable",
        f"warm start: 13 trials of {earlier} (12 complete, 1 stopped early); left out: 1 failed",
    ]


def test_losses_are_best_when_small() -> None:
    rows = [{"epoch": 1, "target_val_loss": 0.5}, {"epoch": 2, "target_val_loss": 0.7}]
    assert best_so_far(rows, "target_val_loss") == {1: 0.5, 2: 0.5}
    assert best_so_far([{"epoch": 1, VAL: 0.0}, {"epoch": 2, VAL: float("nan")}], VAL) == {1: 0.0}


def test_a_folder_that_does_not_fit_is_refused(tmp_path: Path, earlier: Path) -> None:
    warm: dict[str, Any] = {"warm_start": [str(earlier)]}
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "nowhere"):
        text = refused(tmp_path, warm_start=[str(folder)])
        assert text.startswith(
            "warm_start must name sweep folders, with sweep.yaml, sweep.json and base.yaml, got "
            f"'{folder}'; `mergenet sweep run` makes one"
        )
    text = refused(tmp_path, base={"epochs": 3}, **warm)
    assert text == (
        f"warm_start must name sweeps of the same base, got '{earlier}', where epochs is 2 and not 3; leave it out"
    )
    (earlier / "best.yaml").write_text("")
    text = refused(tmp_path, base={"epochs": 3, "seed": 7}, **warm)
    assert text.startswith(
        f"warm_start must name sweeps of the same base, got '{earlier}', where seed is 0 and not 7 ("
    )
    assert text.endswith(f"more differ); base: {earlier}/best.yaml starts from its best instead")
    sweep = (earlier / "sweep.yaml").read_text()
    (earlier / "sweep.yaml").write_text(sweep.replace(VAL, "target_val_loss"))
    text = refused(tmp_path, **warm)
    assert text.startswith(f"warm_start must name sweeps with metric '{VAL}', got '{earlier}' with 'target_val_loss'")


def test_a_base_by_another_name_is_the_same(tmp_path: Path, earlier: Path) -> None:
    assert len(planned(tmp_path, GATES, {"name": "other"}, warm_start=[str(earlier)]).warm.trials) == 13


@pytest.mark.parametrize("sampler", ["random", "nsga2"])
def test_samplers_that_would_not_look_are_refused(tmp_path: Path, earlier: Path, sampler: str) -> None:
    text = refused(tmp_path, sampler=sampler, warm_start=[str(earlier)])
    assert text.startswith(
        f"warm_start must be given to a sampler that learns from it (auto, tpe, gp), got {sampler}; leave it out"
    )


def test_folders_are_looked_for_beside_the_sweep_file_first(tmp_path: Path, earlier: Path) -> None:
    values = {"name": "s", "base": "base.yaml", "search": GATES, "warm_start": ["earlier", "elsewhere"]}
    sweep = parse_sweep(values, "s.yaml", tmp_path)
    assert sweep.warm_start == (str(earlier), "elsewhere")
    (tmp_path / "s.yaml").write_text(dump_sweep(sweep.model_copy(update={"warm_start": ()})))
    assert load_sweep(str(tmp_path / "s.yaml"), ["warm_start=[earlier]"]).warm_start == (str(earlier),)


def test_a_plan_says_what_is_known(tmp_path: Path, earlier: Path) -> None:
    plan = planned(tmp_path, GATES, warm_start=[str(earlier)])
    lines = list(plan_lines(estimate(plan, MEASURED, tmp_path)))
    assert f"warm start: 13 trials of {earlier} (12 complete, 1 stopped early); left out: 1 failed" in lines
    cold = plan_lines(estimate(planned(tmp_path, GATES), MEASURED, tmp_path))
    assert not any(line.startswith("warm start") for line in cold)


def test_the_first_trials_come_before_what_is_modelled(tmp_path: Path, earlier: Path) -> None:
    """Although the earlier sweep trained the defaults, too: this one shows what they give here."""
    wide = {GATE: {"float": [0.05, 0.6]}}
    write_trial(earlier, planned(tmp_path, wide), 20, {GATE: 0.1}, [0.6, 0.6])
    plan = planned(tmp_path, wide, warm_start=[str(earlier)])
    study = opened(plan, tmp_path / "study")
    assert study.draw(0).params == {GATE: 0.1}
    assert study.draw(1).params != {GATE: 0.1}
