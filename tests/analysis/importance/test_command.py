import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.importance.findings import what_mattered
from analysis.importance.text import LEARNING, importance_lines, path_lines, stopping_lines
from mergenet.cli.main import cli
from sweeps.config.choices import SAMPLER_FACTS
from tests.analysis.importance.sweeps import BOUND, by_gate, by_wide_gate, drawn, write_sweep


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["analyze", "importance", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


def test_the_command_says_what_matters_and_what_does_not(folder: Path, tmp_path: Path) -> None:
    lines = run(folder, "--csv", tmp_path / "table.csv").splitlines()
    assert lines[0] == (
        "what explains val top1 %, over 24 of 32 trials (left out: 6 stopped early, 1 failed, 1 still training)"
    )
    assert lines[2].split()[:3] == ["parameter", "n", "PED-ANOVA"]
    assert lines[3].split()[:2] == ["gate", "24"], "the one that is told from chance comes first"
    assert "gate explains more than chance, by PED-ANOVA and fANOVA" in lines
    assert "not told from chance by 24 trials: rank" in lines
    assert any(line.startswith("complete trials are those that early stopping let pass") for line in lines)
    assert any(line.startswith("from the base to the best (trial-") for line in lines)
    assert any(line.startswith("ranking: from epoch 1 on that of epoch 4 (Spearman 1.00") for line in lines)
    assert "early stopping: 6 trials stopped, 108 of 120 epochs trained (10% saved)" in lines
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["evaluator"] for row in rows} == {"PED-ANOVA", "fANOVA"}
    assert float(rows[0]["importance"]) > float(rows[0]["chance_high"])


def test_too_few_trials_and_a_wrong_option_exit_with_2(folder: Path, tmp_path: Path) -> None:
    few = write_sweep(tmp_path / "few", drawn(4), by_gate)
    assert "must hold at least 10 complete trials" in run(few, code=2)
    assert "--epoch (epoch=) must be from 1 to 4" in run(folder, "--epoch", 9, code=2)
    assert len(run(folder, "--metric", "nothing", code=2).splitlines()) == 1


def test_a_path_without_a_step_and_no_early_stopping_are_said(tmp_path: Path) -> None:
    from tests.analysis.importance.sweeps import BASE, GATE, RANK

    points = [*drawn(11), {GATE: 0.5, RANK: 9}]
    base = BASE | {"transfer": {"pairs": BASE["transfer"]["pairs"], "adapter": {"gate": 0.5, "rank": 9}}}
    lines = run(write_sweep(tmp_path / "s", points, by_gate, base=base)).splitlines()
    assert "the best has the base's own values: there is no step" in lines
    assert lines[-1] == "early stopping: no trial was stopped"


def test_all_trials_that_count_as_the_best_are_told(tmp_path: Path) -> None:
    points = drawn(40)
    folder = write_sweep(tmp_path / "s", points, lambda p: min(by_gate(p), 0.575))
    equal = sum(by_gate(point) >= 0.575 for point in points)
    assert equal > 5
    assert f"PED-ANOVA: how far the best {equal} of 40 trials lie from all" in "\n".join(
        importance_lines(what_mattered(folder))
    )


def test_where_the_sampler_learned_p_is_said_to_be_too_small(tmp_path: Path) -> None:
    known = (
        write_sweep(tmp_path / "tpe", drawn(12), by_gate, sampler="tpe"),
        write_sweep(tmp_path / "r", drawn(12), by_gate, sampler="random"),
    )
    learned, independent = ("\n".join(importance_lines(what_mattered(folder))) for folder in known)
    line = "the sampler (tpe) learned from earlier trials: what does nothing passes more often than p says"
    assert line in learned.splitlines() and "the sampler" not in independent
    assert set(LEARNING) == {name for name, facts in SAMPLER_FACTS.items() if facts.learns or facts.generations}


def test_what_was_risked_is_told_beside_the_best_that_breaks_no_constraint(tmp_path: Path) -> None:
    points = drawn(20)
    first = ["complete"] * 14 + ["pruned"] * 6
    wide = ["complete" if by_wide_gate(point) > 1000 else "pruned" for point in points]

    def lines(name: str, states: list[str], parameters: Callable[[dict[str, float]], int]) -> list[str]:
        folder = write_sweep(tmp_path / name, points, by_gate, states, parameters=parameters, constraints=BOUND)
        return stopping_lines(what_mattered(folder))[1:]

    assert lines("some", first, by_wide_gate)[:2] == [
        "to be the best, 0 of 6 would have had to gain more after their last epoch than any of 14 complete trials did",
        "the other 6 could have been, by at most 2.79 points",
    ]
    excluded = "6 of 6 could not have been the best, whatever they gained: they break a constraint"
    assert lines("all", first, lambda _: 5000) == [excluded]
    unknown = "what it risked is not known without a complete trial that breaks no constraint"
    assert lines("complete", wide, by_wide_gate) == [unknown]


def test_a_small_loss_is_shown_with_four_digits(tmp_path: Path) -> None:
    points = drawn(30)
    states = ["pruned" if by_wide_gate(point) > 1000 else "complete" for point in points]
    folder = write_sweep(tmp_path / "s", points, by_gate, states)
    for file in (folder / "trials").glob("*/*.json*"):
        text = re.sub(
            r'("target_val_loss": )([0-9.]+)', lambda found: f"{found[1]}{float(found[2]) / 1000}", file.read_text()
        )
        file.write_text(text)
    found = what_mattered(folder, "target_val_loss")
    path = found.ablation_path
    head, _, base, first, *_ = "\n".join(path_lines(found)).splitlines()
    assert f", {path.attrs['value']:.4g})" in head and path.attrs["value"] < 0.001
    assert base.split() == ["base", f"{path['predicted'][0]:.4g}"]
    low, high = (f"{path[name][1]:+.4g}" for name in ("low", "high"))
    assert first.split()[-4:] == [f"{path['predicted'][1]:.4g}", f"{path['worth'][1]:+.4g}", f"[{low},", f"{high}]"]
    assert stopping_lines(found)[2].endswith(f"could have been, by at most {found.early_stopping['risked']:.4g}")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_help_names_the_themes(theme: str) -> None:
    assert theme in run("--help")
