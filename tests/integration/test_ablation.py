"""Ablations on the real Ray and trainer: a table, more seeds later, a kill, runs that another ablation has trained."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from analysis.seeds import first_of
from analysis.tables.load import load_trials
from analysis.verification.original import find_original
from mergenet.config.loading import load_config
from mergenet.records.run_record import read_epochs
from sweeps import Ablation, AblationResult
from sweeps.ablation.results.result import AblationResult as Result
from sweeps.config.loading import dump_sweep
from tests.pages import blocks
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.sweep_command import COMMAND, sweep_command, sweep_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

VARIED = ("base.yaml", "--values", "transfer.t_cycle=1", "--values", "method=none", "--no-components")
NAMES = ["centre", "t_cycle-1", "method-none"]


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The table to the bit, but for the time of a step."""
    rows = json.loads((folder / "ablation.json").read_text())["table"]
    return [{name: value for name, value in row.items() if name != "step_ms"} for row in rows]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ablation")


@pytest.fixture(scope="module")
def first(place: Path) -> subprocess.CompletedProcess[str]:
    """Two seeds."""
    write_base(place)
    done, left_over = sweep_command(place, "ablate", *VARIED, "--seeds", "2", "--dir", "a")
    assert done.returncode == 0, done.stdout + done.stderr
    assert left_over == []
    return done


@pytest.fixture(scope="module")
def grown(place: Path, first: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """A third seed in the same folder."""
    assert first.returncode == 0
    done, _ = sweep_command(place, "ablate", *VARIED, "--seeds", "3", "--dir", "a")
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_plan_comes_first_then_the_runs_then_the_table(
    place: Path, first: subprocess.CompletedProcess[str]
) -> None:
    lines = first.stdout.splitlines()
    assert first.stderr == ""
    assert lines[0].startswith("trying a few steps of each of ")
    assert lines[1] == "ablation tiny-ablation"
    assert "runs: 6, of which 0 are reused or there and 6 train" in lines
    assert "source trains once, 1 layer recorded at every step; 2 variants replay it" in lines
    for name in ["source", *(f"{name}{more}" for name in NAMES for more in ("", "-seed-2"))]:
        assert sum(line.startswith(f"{name} ") and " epochs " in line for line in lines) == 1, name
    assert sum(line.startswith(("centre  ", "t_cycle 1  ", "method none  ")) for line in lines) >= 3
    assert any(line.startswith("gain: minus centre, paired by seed") for line in lines)
    for name in ("ablation.csv", "ablation.md", "ablation.tex"):
        assert (place / "a" / name).is_file()


@pytest.mark.usefixtures("first")
def test_an_ablation_folder_is_read_like_a_sweeps(place: Path) -> None:
    table = load_trials(place / "a")
    assert set(table["trial"]) == set(NAMES) and set(table["state"]) == {"complete"}
    status, _ = sweep_command(place, "status", "a")
    assert "3 variants with" in status.stdout and "finished (no driver)" in status.stdout
    recorded = [
        path for path in (place / "a/trials").iterdir() if "kind: recorded" in (path / "config.yaml").read_text()
    ]
    assert len(recorded) in (4, 6), "the runs with transfer replay the source"


def test_more_seeds_train_only_what_is_new(place: Path, grown: subprocess.CompletedProcess[str]) -> None:
    trained = [line.split()[0] for line in grown.stdout.splitlines() if " epochs " in line]
    assert sorted(trained) == sorted(f"{name}-seed-3" for name in NAMES)
    assert any(line.startswith("source ") and "there already" in line for line in grown.stdout.splitlines())
    result = AblationResult.load(place / "a")
    assert result.seeds == [1, 2, 3]
    assert result.table["n"].tolist() == [3, 3, 3]
    assert result.table["num_pairs"].tolist()[1:] == [3, 3]


@pytest.mark.long
@pytest.mark.usefixtures("grown")
def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_table(place: Path) -> None:
    for number, wanted in enumerate((1, 4)):  # runs that have ended when the driver is killed
        folder = place / f"killed-{number}"
        command = [sys.executable, "-c", COMMAND, "ablate", *VARIED, "--seeds", "3", "--dir", folder.name]
        with (place / "out.txt").open("w") as out:
            driver = subprocess.Popen(command, cwd=place, env=sweep_environment(), stdout=out, stderr=out)
        while driver.poll() is None and len(list(folder.glob("trials/*/result.json"))) < wanted:
            time.sleep(0.1)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        resumed, _ = sweep_command(place, "resume", folder.name)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        assert timeless(folder) == timeless(place / "a")


@pytest.mark.usefixtures("grown")
def test_runs_of_an_earlier_folder_are_reused_and_the_python_api_says_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    values = {"transfer.t_cycle": [1], "method": ["none"], "transfer.control": ["noise"]}
    ablation = Ablation.load("base.yaml", values=values, components=False, seeds=2, reuse=["a"])
    found = ablation.plan("b")
    assert found["runs"] == {"all": 8, "reused": 6, "train": 2}
    result = ablation.run("b", quiet=True)
    assert isinstance(result, Result)
    assert result.facts["reused"] == 6
    again = AblationResult.load("a").runs
    for name in NAMES:
        one, other = (runs[(runs["trial"] == name) & (runs["seed"] < 3)] for runs in (result.runs, again))
        assert one["target_test_top1"].tolist() == other["target_test_top1"].tolist()
    assert r"\toprule" in result.latex() and result.markdown().startswith("| variant |")
    assert ablation.run("b", quiet=True).table.equals(result.table), "a finished one is only read"


@pytest.fixture(scope="module")
def swept(place: Path) -> Path:
    """A finished sweep of two trials, under the name that docs/analysis.md uses."""
    write_base(place)
    search = {"transfer.t_cycle": {"choice": [2, 4]}}
    keys: dict[str, Any] = {"num_trials": 2, "scheduler": "none", "confirm_seeds": 2}
    (place / "tiny.yaml").write_text(dump_sweep(sweep_config(search, **keys)))
    done, _ = sweep_command(place, "run", "tiny.yaml", "--dir", "sweep-results/quickstart")
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "sweep-results/quickstart"


@pytest.mark.usefixtures("swept")
def test_the_page_runs_around_the_best_of_a_sweep_and_reuses_its_confirmation(place: Path) -> None:
    code = "\n".join(text for language, _, text in blocks("analysis.md") if language == "python" and "Ablation" in text)
    shorter = code.replace("seeds=8", "seeds=3")
    assert shorter != code
    done = subprocess.run(
        [sys.executable, "-c", shorter], cwd=place, env=sweep_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "reused: 2 runs of sweep-results/quickstart" in done.stdout.splitlines()
    assert r"\toprule" in done.stdout
    result = AblationResult.load(place / "results/cycles")
    assert result.table["n"].tolist() == [3] * len(result.variants)


@pytest.mark.usefixtures("swept")
def test_the_best_trials_are_confirmed_before_one_is_named(place: Path) -> None:
    done, _ = sweep_command(place, "confirm", "sweep-results/quickstart", "--top", "2", "--seeds", "2", "--dir", "best")
    assert done.returncode == 0, done.stdout + done.stderr
    result = AblationResult.load(place / "best")
    assert result.best in ("trial-000", "trial-001")
    assert sum(" in the search, " in line for line in done.stdout.splitlines()) == 2
    assert sum("rejected after 2 seeds" in line for line in done.stdout.splitlines()) == 1
    trained = Counter(first_of(path.name) for path in (place / "best/trials").iterdir())
    loser = {"trial-000": "trial-001", "trial-001": "trial-000"}[str(result.best)]
    assert trained == {"no-transfer": 4, str(result.best): 4, loser: 2}
    assert load_config(str(place / "best/best.yaml")).transfer.t_cycle in (2, 4)
    assert find_original(place / "best/best.yaml").folder.name == f"{result.best}-seed-4", "the last seed"
    assert result.table["gain"].notna().tolist() == [one.name == result.best for one in result.variants]
    facts = json.loads((place / "best/ablation.json").read_text())
    assert (len(facts["seeds_chose"]), len(facts["seeds_told"]), facts["num_pairs"]) == (2, 2, 2)


def test_one_trial_confirmed_trains_what_more_confirm_seeds_would(place: Path, swept: Path) -> None:
    """To the bit: a report's steps advise the one in the place of the other."""
    best = (swept / "best.yaml").read_text().splitlines()[0]
    name = "trial-000" if "trial-000" in best else "trial-001"
    done, _ = sweep_command(place, "confirm", str(swept), "--top", "1", "--seeds", "3", "--dir", "one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(line.startswith("reused: 4 runs of ") for line in done.stdout.splitlines())
    shutil.copytree(swept, place / "grown-sweep")
    file = place / "grown-sweep/sweep.yaml"
    file.write_text(file.read_text().replace("confirm_seeds: 2", "confirm_seeds: 3"))
    done, _ = sweep_command(place, "resume", "grown-sweep")
    assert done.returncode == 0, done.stdout + done.stderr
    for side, job in (("best", name), ("none", "no-transfer")):
        runs = [place / f"grown-sweep/trials/confirm-{side}-3", place / f"one/trials/{job}-seed-3"]
        one, other = (
            [{k: v for k, v in row.items() if "seconds" not in k} for row in read_epochs(run)] for run in runs
        )
        assert one == other and len(one) == 2
    told = json.loads((place / "grown-sweep/summary.json").read_text())["confirmation"]["target_test_top1"]["gain"]
    row = AblationResult.load(place / "one").table.iloc[1]
    assert (row["n"], row["gain"]) == (3, pytest.approx(told["mean"], abs=1e-12))


@pytest.mark.usefixtures("first")
def test_a_mirror_on_w_and_b_and_a_copy_that_goes_on_elsewhere(place: Path) -> None:
    """Runs that train here and those that are reused; the folder is lost, and its copy goes on."""
    url = f"file://{place}/copies/one"
    more = ("--values", "transfer.t_cycle=1,4", "--reuse", "a", "--dir", "c", "--wandb", "offline", "--copy-to", url)
    done, _ = sweep_command(place, "ablate", *VARIED, "--seeds", "2", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith(("wandb:", "copy:"))]
    assert len(told) == 1 and told[0].startswith("wandb: artifacts and the workspace are not made offline; "), told
    mirrored = {path.name.split("tiny-ablation-")[1] for path in (place / "c/wandb").glob("offline-run-*")}
    every = {f"{name}{seed}" for name in [*NAMES, "t_cycle-4"] for seed in ("", "-seed-2")}
    assert mirrored == {*every, "summary"}
    assert (place / "copies/one/ablation.csv").read_bytes() == (place / "c/ablation.csv").read_bytes()
    (place / "c").rename(place / "lost")
    resumed, _ = sweep_command(place, "resume", url, "--dir", "d")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert timeless(place / "d") == timeless(place / "lost")
    assert not [line for line in resumed.stdout.splitlines() if " epochs " in line], "nothing trains again"
