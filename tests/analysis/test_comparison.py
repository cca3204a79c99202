"""Comparisons of runs on disk: which sides there are, what pairs, what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from analysis import compare, load_trials, paired_difference, paired_gain, to_markdown
from analysis.cli import analyze
from analysis.comparison.recipes import recipe, varying
from mergenet.config.loading import parse_config
from mergenet.errors import UserError
from tests.analysis.folders import make_run
from tests.records import edit_record

METRIC = "target_test_top1"
TESTS = {"none": (0.50, 0.52, 0.51, 0.55, 0.53, 0.54), "mergenet": (0.53, 0.54, 0.55, 0.56, 0.57, 0.55)}

MakeSide = Callable[..., Path]


@pytest.fixture
def side(tmp_path: Path) -> MakeSide:
    """A folder of runs, one a seed: `side("kd", {"method": "kd"}, tests=(0.5, 0.6))`."""

    def make(name: str, settings: dict[str, Any] | None = None, tests: Any = TESTS["none"], first: int = 0) -> Path:
        for seed, test in enumerate(tests, start=first):
            make_run(tmp_path / name / f"seed-{seed}", (0.5, 0.6), test, None, {"seed": seed, **(settings or {})})
        return tmp_path / name

    return make


@pytest.fixture
def none(side: MakeSide) -> Path:
    return side("none", {"method": "none"})


@pytest.fixture
def ours(side: MakeSide) -> Path:
    return side("ours", tests=TESTS["mergenet"])


def edit(run: Path, file: str, **changes: Any) -> None:
    edit_record(run / file, changes)


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        compare(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- what a comparison is


def test_two_folders_are_paired_by_seed_and_the_first_is_the_baseline(none: Path, ours: Path) -> None:
    found = compare([none, ours])
    gain = paired_difference(np.array(TESTS["mergenet"]), np.array(TESTS["none"]))
    assert found.metric == METRIC
    assert found.gains == {"ours": gain}
    assert found.compared == {"method": ["none", "mergenet"]}
    baseline, row = (found.table.loc[i] for i in (0, 1))
    assert (baseline["variant"], baseline["n"], baseline["mean"]) == ("none", 6, pytest.approx(0.525))
    assert np.isnan(baseline["gain"])
    assert (row["gain"], row["gain_low"], row["gain_high"]) == (gain.mean, *gain.interval)
    assert (row["bca_low"], row["bca_high"]) == gain.bootstrap_interval
    assert (row["p"], row["p_holm"], row["smallest_p"]) == (gain.p_value, gain.p_value, 2 / 64)
    assert found.runs.groupby("side")["seed"].apply(list).to_dict() == {"none": [*range(6)], "ours": [*range(6)]}
    assert found.notes[:2] == [
        "compared: method (none, mergenet); all other settings are alike, and the data are the same",
        "paired by seed and data split with none: 6 seeds 0, 1, 2, 3, 4, 5",
    ]
    assert found.notes[2].startswith("ours: 6 pairs of this spread show a difference of ")


def test_the_order_on_disk_is_not_what_pairs(none: Path, ours: Path) -> None:
    for seed in range(6):
        (ours / f"seed-{seed}").rename(ours / f"run-{9 - seed}")
    assert compare([none, ours]).gains["ours"].mean == pytest.approx(0.025)


def test_another_baseline_another_metric_and_holm_over_the_sides(none: Path, ours: Path, side: MakeSide) -> None:
    kd = side("kd", {"method": "kd"}, tests=[test + 0.01 for test in TESTS["none"]])
    found = compare([none, ours, kd], baseline="kd", metric="target_test_loss")
    assert found.table["variant"].tolist() == ["kd", "none", "ours"]
    assert found.table["gain"].tolist()[1:] == [0.0, 0.0], "all losses are equal"
    assert found.notes[-1] == "lower is better: a negative gain is an improvement"
    found = compare([none, ours, kd])
    assert found.table["p"].tolist()[1:] == [2 / 64, 2 / 64]
    assert found.table["p_holm"].tolist()[1:] == [4 / 64, 4 / 64]
    told = "6 seeds cannot give p (Holm) < 0.05 for 2 sides together (0.0625 at the least); that takes 7"
    assert told in found.notes


def test_what_runs_cost_is_compared_too(none: Path, ours: Path) -> None:
    for seed, run in enumerate(sorted(ours.iterdir())):
        rows = [json.loads(line) for line in (run / "epochs.jsonl").read_text().splitlines()]
        for row in rows:
            row["seconds_target"] = 1.5 + 0.001 * (seed + 1)
        (run / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for run in none.iterdir():  # a run without transfer writes none
        text = (run / "epochs.jsonl").read_text()
        (run / "epochs.jsonl").write_text(text.replace(', "adapter_parameters": 1000', ""))
    for metric, base, gain in (
        ("step_seconds", 0.15, 0.00035),
        ("seconds", 3.5, 0.007),
        ("adapter_parameters", 0, 1000),
    ):
        found = compare([none, ours], metric=metric)
        assert found.table["mean"][0] == pytest.approx(base) and found.table["gain"][1] == pytest.approx(gain)
        assert found.notes[-1] == "lower is better: a negative gain is an improvement"
        assert f"{found.table['gain'][1]:+.4g} [" in str(found)


def test_the_interval_has_its_confidence_to_the_digit(none: Path, ours: Path) -> None:
    assert f"{METRIC} % [99.5 % interval]" in str(compare([none, ours], confidence=0.995))


def test_runs_in_one_folder_are_told_apart_by_their_settings(none: Path, ours: Path) -> None:
    for run in ours.iterdir():
        run.rename(none / f"ours-{run.name}")
    for options in ({}, {"by": "method"}):
        found = compare(none, **options)
        assert found.table["variant"].tolist() == ["none", "mergenet"]
        assert found.table["gain"][1] == pytest.approx(0.025)


def test_values_of_a_setting_are_sides_in_whatever_folder_they_are(ours: Path, side: MakeSide) -> None:
    more = side("more", {"transfer.t_cycle": 4}, tests=TESTS["none"][:3])
    rest = side("rest", {"transfer.t_cycle": 4}, tests=TESTS["none"][3:], first=3)
    found = compare([ours, more, rest], by="transfer.t_cycle", baseline="4")
    assert found.table[["variant", "n"]].values.tolist() == [["4", 6], ["8", 6]]
    assert found.table["gain"][1] == pytest.approx(0.025)


def test_settings_that_a_method_does_not_read_are_not_compared(none: Path, side: MakeSide) -> None:
    other = {"transfer.t_cycle": 4, "source.optimizer.lr": 0.01, "threads": 1}
    assert compare([none, side("ours", other)], by="method").compared == {"method": ["none", "mergenet"]}
    kd = {"method": "kd", "distillation.weight": 0.5}
    dkd = {"method": "dkd", "distillation.alpha": 2.0}
    assert compare([side("kd", kd), side("dkd", dkd)], by="method").compared == {"method": ["kd", "dkd"]}


def test_a_side_that_differs_in_several_settings_says_so(none: Path, side: MakeSide) -> None:
    found = compare([none, side("slow", {"target.optimizer.lr": 0.01})])
    assert found.compared == {"method": ["none", "mergenet"], "target.optimizer.lr": [0.1, 0.01]}
    assert "slow: its gain is that of 2 settings together, method, target.optimizer.lr" in found.notes


def test_single_runs_are_sides_too_and_one_seed_shows_nothing(none: Path, ours: Path) -> None:
    found = compare([none / "seed-1", ours / "seed-1"])
    assert found.table["variant"].tolist() == ["none/seed-1", "ours/seed-1"]
    assert found.table["n"].tolist() == [1, 1]
    assert found.table["gain"][1] == pytest.approx(0.02)
    assert "1 seed has no interval; run at least 2 seeds, 6 for p < 0.05" in found.notes


def test_a_replayed_source_is_the_live_one(ours: Path, side: MakeSide) -> None:
    recorded = {"source.kind": "recorded", "source.recording": "somewhere/source"}
    assert compare([ours, side("replayed", recorded)]).compared == {}


# ---------------------------------------------------------------- sweeps


def test_a_sweep_alone_is_compared_in_itself(sweep: Path) -> None:
    found = compare(sweep)
    assert found.table["variant"].tolist() == ["confirm_none", "confirm_best"]
    assert found.table["gain"][1] == pytest.approx(0.035)


def test_a_sweep_beside_others_is_its_best_on_fresh_seeds(sweep: Path, side: MakeSide) -> None:
    runs = side("runs", {"method": "none"}, tests=(0.5,) * 6, first=100)
    found = compare([runs, sweep])
    assert found.table["variant"].tolist() == ["runs", "my-sweep"]
    assert found.table["gain"][1] == pytest.approx(0.035)
    same = compare([runs, sweep], roles=["confirm_none"])
    assert same.compared == {}
    assert same.notes[0].startswith("compared: runs of one recipe; ")


def test_roles_and_trials_choose_and_a_trial_is_selected_for_its_luck(sweep: Path) -> None:
    found = compare(sweep, trials=["b0", "t1", "t0"])
    assert found.table["variant"].tolist() == ["b0", "t1", "t0"]
    note = "t1, t0: of a search, on its own seeds"
    assert any(one.startswith(note) for one in found.notes)
    for text, of_search in (("top: null\n", False), ("top: 3\n", True)):  # an ablation; a confirmation, which chooses
        (sweep / "ablation.yaml").write_text(text)
        assert any(one.startswith(note) for one in compare(sweep, trials=["b0", "t1", "t0"]).notes) == of_search
    both = compare(
        [sweep.rename(sweep.parent / "a"), shutil.copytree(sweep.parent / "a", sweep.parent / "b")],
        **{"roles": ["confirm_none", "confirm_best"]},
    )
    assert both.table["variant"].tolist() == ["a confirm_none", "a confirm_best", "b confirm_none", "b confirm_best"]
    sweep = sweep.parent / "a"
    swapped = compare(sweep, roles=["confirm_best", "confirm_none"])
    assert swapped.table["gain"][1] == pytest.approx(-0.035)


def test_every_seed_of_a_trial_is_a_pair(tmp_path: Path) -> None:
    for name, settings, test in (("baseline", {"method": "none"}, 0.5), ("trial-000", {}, 0.52)):
        role = "baseline" if name == "baseline" else "trial"
        for place, seed in enumerate((0, 7), start=1):
            about = {"role": role if place == 1 else "replicate", "number": 0, "state": "complete", "params": {}}
            folder = name if place == 1 else f"{name}-seed-{place}"
            about |= {"seeds": [0, 7]} if place == 1 else {}
            make_run(tmp_path / "s/trials" / folder, (0.5,), test + 0.01 * place, about, {**settings, "seed": seed})
    found = compare(tmp_path / "s", trials=["baseline", "trial-000"])
    assert found.table["n"].tolist() == [2, 2]
    assert found.runs["seed"].tolist() == [0, 7, 0, 7]
    assert found.table["gain"][1] == pytest.approx(0.02)


def test_plain_runs_are_chosen_by_the_names_that_the_table_prints(tmp_path: Path) -> None:
    for method, test in (("none", 0.5), ("kd", 0.52)):
        make_run(tmp_path / f"{method}-seed-1", (0.5,), test, None, {"method": method, "seed": 1})
    found = compare(tmp_path, trials=list(load_trials(tmp_path)["trial"][::-1]))
    assert found.table["variant"].tolist() == ["none", "kd"]
    assert found.table["gain"][1] == pytest.approx(0.02)


def test_a_sweep_that_lacks_what_is_asked_for(sweep: Path, none: Path) -> None:
    for path in (sweep / "trials").glob("c*"):
        path.rename(none.parent / path.name)
    (sweep / "sweep.yaml").write_text("name: s\n")
    message = refusal([none, sweep])
    assert message.startswith(f"{sweep} must hold runs of role confirm_best, got 6 confirm_none, 4 trial, 1 baseline; ")
    assert message.endswith(f"`mergenet sweep status {sweep}` says how it stands")
    assert "trials (--trial) in" in refusal(sweep, trials=["t9"])
    assert refusal(sweep, roles=["best"]).startswith("roles (--role) must be one of ")


# ---------------------------------------------------------------- what does not pair


def test_missing_seeds_are_named_and_may_be_left_out(none: Path, side: MakeSide) -> None:
    ours = side("ours", tests=TESTS["mergenet"], first=2)
    edit(ours / "seed-3", "result.json", status="failed", error="it broke")
    assert refusal([none, ours]) == (
        "seeds must pair: none lacks seed 6, 7; ours lacks seed 0, 1, 3 (failed); train these, or compare the seeds "
        "that all sides have, 3 of 8, with common=True (--common)"
    )
    found = compare([none, ours], common=True)
    assert found.runs["seed"].tolist() == [2, 4, 5] * 2
    assert found.notes[2] == (
        "5 seeds left out (0: not in ours; 1: not in ours; 3: not in ours (failed); 6: not in none; 7: not in none)"
    )


def test_no_shared_seed_a_seed_twice_and_no_finished_run(none: Path, side: MakeSide) -> None:
    other = side("other", first=10)
    assert refusal([none, other], common=True).startswith("the sides must share a seed: none lacks seed 10, 11, ")
    make_run(none / "again", (0.5,), 0.5, None, {"seed": 3, "method": "none"})
    message = "none must have one run a seed, got two of seed 3: none/again and none/seed-3; leave one out"
    assert refusal([none, other]) == message
    for run in other.iterdir():
        edit(run, "result.json", status="stopped")
    (none / "again/config.yaml").unlink()
    (none / "again/provenance.json").unlink()
    assert refusal([none, other]) == f"other must hold a finished run with a {METRIC}, got only stopped"


def test_a_value_that_is_no_number_is_a_missing_seed(none: Path, ours: Path) -> None:
    edit(ours / "seed-4", "result.json", **{METRIC: float("nan")})
    assert f"ours lacks seed 4 ({METRIC} nan)" in refusal([none, ours])


def test_runs_pair_by_their_data_split_as_well(side: MakeSide) -> None:
    split = {"target.data.split_seed": 1}
    first, second = side("first", {"method": "none"}), side("second", {"method": "none", **split})
    assert refusal([first, second], common=True).startswith("the sides must share a seed: ")
    assert "lacks seed 0 (target.data.split_seed 1), 1 (target.data.split_seed 1)" in refusal([first, second])
    assert compare([second, side("third", split)]).gains["third"].mean == 0


def test_settings_beside_what_is_compared_are_refused_by_name_and_value(none: Path, side: MakeSide) -> None:
    slow = side("slow", {"target.optimizer.lr": 0.01, "target.batch_size": 32})
    assert refusal([none, slow], by="method") == (
        "the runs of a seed must be alike in all but method, got target.optimizer.lr (0.1, 0.01), target.batch_size "
        "(64, 32); by=['method', 'target.optimizer.lr'] (--by method --by target.optimizer.lr) compares that too"
    )


def test_a_side_of_several_recipes_is_refused_by_name_and_value(none: Path, ours: Path) -> None:
    make_run(ours / "other", (0.5,), 0.5, None, {"seed": 9, "transfer.t_cycle": 4})
    assert refusal([none, ours]) == (
        "ours must hold runs that differ in their seeds only, got transfer.t_cycle (4, 8); by='transfer.t_cycle' "
        "(--by transfer.t_cycle) compares them, trials (--trial) or roles (--role) choose"
    )


def test_other_data_are_compared_only_where_they_are_named(none: Path, side: MakeSide) -> None:
    tenth = side("tenth", {"method": "none", "target.data.train_fraction": 0.1})
    assert refusal([none, tenth]).startswith(
        "the runs of a seed must be alike in task and data, got target.data.train_fraction (1, 0.1); by="
    )
    found = compare([none, tenth], by="target.data.train_fraction")
    assert found.notes[0].endswith("and the data differ as named")


def test_data_code_and_weights_are_compared_by_their_hashes(none: Path, ours: Path) -> None:
    old, new = "a" * 64, "b" * 64
    for run in (*none.iterdir(), *ours.iterdir()):
        edit(run, "provenance.json", data_hashes={"target": old}, code_hashes={"mine": old})
    assert compare([none, ours]).table["n"].tolist() == [6, 6]
    edit(ours / "seed-2", "provenance.json", data_hashes={"target": new})
    message = refusal([none, ours])
    assert message.startswith("the runs of a seed must come from the same data and code, got at seed 2 of ours: ")
    assert f"target's data {new[:12]} (was {old[:12]}), the other being none's" in message
    edit(ours / "seed-2", "provenance.json", data_hashes={"target": old}, code_hashes={"mine": new})
    assert f"code of mine {new[:12]} (was {old[:12]})" in refusal([none, ours])


def test_another_machine_is_told_and_not_refused(none: Path, ours: Path) -> None:
    for folder, torch in ((none, "2.12"), (ours, "2.13")):
        for run in folder.iterdir():
            edit(run, "provenance.json", versions={"torch": torch}, threads=1, cpu="one")
    notes = compare([none, ours]).notes
    assert "ours was trained with another version or machine than none: torch 2.13 (was 2.12)" in notes


def test_names_that_are_not_there(none: Path, ours: Path, tmp_path: Path) -> None:
    both = [none, ours]
    assert refusal([]) == "folders must name at least one folder of runs, got none"
    assert refusal([none, none]).startswith("each folder must be given once, got none twice; ")
    assert refusal(none).startswith("there must be at least two sides to compare, got none; ")
    assert refusal(both, metric="top1").startswith("metric (--metric) must be one of ")
    assert refusal(both, baseline="our").endswith("got 'our'; did you mean ours?")
    assert refusal(both, by="t_cycle") == (
        "by (--by) must be a setting of a training, got 't_cycle'; did you mean transfer.t_cycle?"
    )
    assert refusal(both, by="seed") == "by (--by) must be a setting to compare, got 'seed': runs pair by it"
    (tmp_path / "empty").mkdir()
    assert refusal([none, tmp_path / "empty"]).startswith(f"{tmp_path}/empty must hold runs, found none; ")
    assert refusal(both, confidence=95) == "confidence must lie between 0 and 1, got 95"


def test_runs_that_select_by_other_metrics_learn_different_tasks(none: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "qa", (0.5,), 0.5, None, {"seed": 0}, metric="exact")
    assert refusal([none, tmp_path / "qa"]).startswith("the runs must select their best epochs by one metric, got ")


def test_a_run_that_failed_before_its_first_epoch(sweep: Path) -> None:
    for run in (sweep / "trials").glob("c*"):
        edit(run, "trial.json", state="failed", error="no memory")
        (run / "config.yaml").unlink()
    assert refusal(sweep) == "confirm_best must hold a finished run, got 6 failed before the first epoch"


def test_recipes_write_out_seeds_and_leave_out_what_is_not_read() -> None:
    pairs = [{"source": "fc", "target": "classifier.1"}]
    first = recipe(parse_config({"seed": 3, "transfer": {"pairs": pairs}}, "test"))
    assert (first["seed"], first["source.seed"], first["target.seed"]) == (3, 3, 3)
    assert not {"name", "threads", "device", "distillation.weight"} & first.keys()
    own = recipe(parse_config({"source": {"kind": "self"}, "transfer": {"pairs": pairs}}, "test"))
    assert [path for path in own if path.startswith("source.")] == ["source.kind"]
    assert varying([first, own]) == ["source.kind"]
    assert not [path for path in recipe(parse_config({"method": "none"}, "test")) if path.startswith("transfer.")]


# ---------------------------------------------------------------- command line


def test_the_command_prints_the_table_and_writes_it(none: Path, ours: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / "out" / f"table.{name}" for name in ("csv", "markdown", "latex")}
    options = [text for name, file in files.items() for text in (f"--{name}", str(file))]
    done = CliRunner().invoke(analyze, ["compare", str(none), str(ours), *options], catch_exceptions=False)
    assert done.exit_code == 0
    table, notes = done.stdout.split("\n\n")
    assert [line.split()[:2] for line in table.splitlines()] == [["variant", "n"], ["none", "6"], ["ours", "6"]]
    assert "+2.50 [" in table
    assert notes.splitlines()[-3:] == [f"wrote {file}" for file in files.values()]
    found = compare([none, ours])
    assert pd.read_csv(files["csv"])["gain"][1] == found.table["gain"][1]
    assert files["markdown"].read_text() == to_markdown(found.table, found.metric)
    assert files["latex"].read_text().startswith(r"\begin{tabular}{lrrrrrrr}")
    assert str(found).startswith(table)


# ---------------------------------------------------------------- paired_gain on tables of runs


def test_paired_gain_refuses_other_settings_where_it_compares_one(none: Path, side: MakeSide) -> None:
    ours = side("ours", {"transfer.t_cycle": 4})
    slow = side("slow", {"method": "kd", "target.optimizer.lr": 0.01})
    for run in (*slow.iterdir(), *ours.iterdir()):
        run.rename(none / f"{run.parent.name}-{run.name}")
    runs = load_trials(none)
    assert paired_gain(runs, "none", "mergenet", METRIC, by="method").num_seeds == 6
    with pytest.raises(UserError, match=r"alike in all but method, got target.optimizer.lr 0.01 with method 'kd' and"):
        paired_gain(runs, "none", "kd", METRIC, by="method")


def test_paired_gain_pairs_by_the_split_where_runs_have_one() -> None:
    runs = pd.DataFrame(
        [
            {"variant": name, "seed": seed, "target.data.split_seed": split, METRIC: 0.5 + gain + 0.1 * split}
            for name, gain in (("a", 0.0), ("b", 0.02))
            for seed in (1, 2)
            for split in (0, 1)
        ]
    )
    assert paired_gain(runs, "a", "b", METRIC).num_seeds == 4
    with pytest.raises(UserError, match="'a' has seed 2 of split 1, which 'b' lacks"):
        paired_gain(runs[:-1], "a", "b", METRIC)
