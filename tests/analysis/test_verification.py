"""`analyze verify`: real runs are trained again, and what came of it is judged by their records."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy import stats

from analysis import verify
from analysis.cli import analyze
from analysis.verification.original import find_original
from analysis.verification.spread import prediction_interval
from analysis.verification.verify import metric_differences
from mergenet.config.loading import dump_yaml
from mergenet.errors import UserError
from mergenet.records.run_record import epochs_hash, read_epochs, read_run
from mergenet.training.run import train_run
from tests.analysis.folders import make_run
from tests.records import edit_record
from tests.tiny import set_up, tiny_config

pytestmark = pytest.mark.usefixtures("tiny")

COMMITTED = ("0" * 40, False)
METRICS = ("target_val_top1", "target_test_top1")


@pytest.fixture(autouse=True)
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkout's code counts as committed: edits of whoever runs the tests would be a reason for other bits."""
    monkeypatch.setattr("mergenet.records.provenance._code_state", lambda: COMMITTED)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three runs that differ in their seeds, and best.yaml, the configuration of the first."""
    folder = tmp_path_factory.mktemp("trained") / "runs"
    with pytest.MonkeyPatch.context() as patch, set_up():
        patch.setattr("mergenet.records.provenance._code_state", lambda: COMMITTED)
        for seed in (0, 1, 2):
            list(train_run(tiny_config({"seed": seed}), folder / f"seed-{seed}"))
    (folder / "best.yaml").write_text(dump_yaml(tiny_config()))
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(analyze, ["verify", *map(str, arguments)], catch_exceptions=False)


def edit(path: Path, **changes: Any) -> None:
    edit_record(path, changes)


def record_other_numbers(run: Path, epochs: dict[str, float], result: dict[str, float]) -> None:
    """Makes the run one that recorded other numbers: in its last epoch, in its result."""
    rows = read_epochs(run)
    rows[-1] |= epochs
    edit(run / "result.json", epochs_sha256=epochs_hash(rows), **result)
    (run / "epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_on_one_machine_the_bits_come_back(folder: Path, tmp_path: Path) -> None:
    done = run(folder / "best.yaml", "--out", tmp_path / "again")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"training {folder}/best.yaml again, to be compared with {folder}/seed-0"
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert "identical to the bit" in lines
    record = read_run(folder / "seed-0")
    numbers = sum(not name.startswith("seconds_") for row in record.epochs for name in row)
    assert any(line.startswith(f"all {numbers + len(record.result) - 2} numbers of {folder}/seed-0") for line in lines)
    assert read_run(tmp_path / "again").epochs[0]["target_val_loss"] == record.epochs[0]["target_val_loss"]


def test_a_single_other_bit_where_nothing_has_changed_is_an_error(folder: Path) -> None:
    record_other_numbers(folder / "seed-0", {"target_val_loss": float(np.nextafter(_last_loss(folder), 9))}, {})
    done = run(folder / "best.yaml")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()[-2:]
    assert lines[0].startswith("NOT VERIFIED: not identical, although code, data, versions, machine and threads")
    assert lines[1].endswith(f"1 of {_count(folder)} numbers of {folder}/seed-0 differ, from epoch 2 on")


def test_what_has_changed_is_named_and_the_spread_of_the_seeds_decides(folder: Path) -> None:
    original = folder / "seed-0"
    values = {name: read_run(original).result[name] for name in METRICS}
    versions = read_run(original).provenance["versions"] | {"torch": "1.0"}
    edit(original / "provenance.json", versions=versions)
    record_other_numbers(original, {}, {name: value + 0.001 for name, value in values.items()})
    for seed, away in ((1, 0.05), (2, -0.05)):  # other seeds lie around what will come back
        edit(folder / f"seed-{seed}/result.json", **{name: value + away for name, value in values.items()})
    found = verify(folder / "best.yaml")
    assert (found.verdict, found.ok) == ("within", True)
    assert len(found.changed) == 1 and found.changed[0].startswith("torch ") and found.changed[0].endswith("(was 1.0)")
    assert found.differences["epoch"].isna().all() and found.differences["column"].tolist() == sorted(METRICS)
    assert found.spread["n"].tolist() == [2, 2]
    assert found.spread["again"].tolist() == list(values.values())
    assert "not identical, but within the spread of the seeds" in str(found)
    assert "97.5 % prediction interval from 2 runs with other seeds [" in str(found)
    for seed, away in ((1, 0.301), (2, 0.299)):
        edit(folder / f"seed-{seed}/result.json", **{name: value + away for name, value in values.items()})
    done = run(folder / "best.yaml")
    assert done.exit_code == 1
    assert "NOT VERIFIED: the metrics lie outside of the spread of the seeds" in done.stdout
    shutil.rmtree(folder / "seed-2")
    assert verify(folder / "best.yaml").verdict == "unknown"


def test_code_that_was_edited_both_times_is_a_reason_for_other_bits(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("mergenet.records.provenance._code_state", lambda: ("0" * 40, True))
    edit(folder / "seed-0/provenance.json", git_dirty=True)
    record_other_numbers(folder / "seed-0", {}, {"target_test_loss": 0.0})
    assert verify(folder / "best.yaml").changed == ["mergenet's code was edited since its commit, both times"]


def test_runs_of_another_recipe_do_not_tell_the_spread(folder: Path) -> None:
    shutil.rmtree(folder / "seed-2")
    list(train_run(tiny_config({"seed": 3, "target.optimizer.lr": 0.01}), folder / "slow"))
    edit(folder / "seed-0/provenance.json", cpu="another")
    record_other_numbers(folder / "seed-0", {}, {"target_test_top1": 0.999})
    found = verify(folder / "best.yaml")
    assert found.spread["n"].tolist() == [1, 1]
    assert "fewer than 2 runs with other seeds" in str(found)


def test_a_trial_is_found_by_its_configuration_with_the_source_live(tmp_path: Path) -> None:
    replayed = {"source.kind": "recorded", "source.recording": "elsewhere"}
    sweep = tmp_path / "sweep"
    for number, cycle in enumerate((4, 8)):
        about = {"role": "trial", "number": number, "state": "complete", "params": {}}
        settings = {**replayed, "transfer.t_cycle": cycle}
        make_run(sweep / f"trials/trial-00{number}", (0.5,), 0.5, about, settings)
    live = make_run(tmp_path / "live", settings={"transfer.t_cycle": 8})
    shutil.copy(live / "config.yaml", sweep / "best.yaml")
    assert find_original(sweep / "best.yaml").folder.name == "trial-001"
    assert find_original(sweep).folder.name == "trial-001", "a folder stands for the file in it"
    shutil.copy(live / "config.yaml", tmp_path / "best.yaml")
    assert find_original(tmp_path / "best.yaml", sweep).folder.name == "trial-001"
    assert find_original(live / "config.yaml").folder == live


def test_what_cannot_be_verified_is_one_line(folder: Path, tmp_path: Path) -> None:
    def refusal(*arguments: object) -> str:
        with pytest.raises(UserError) as caught:
            run(*arguments)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    alone = tmp_path / "alone/best.yaml"
    alone.parent.mkdir()
    shutil.copy(folder / "best.yaml", alone)
    assert refusal(alone).startswith(f"{alone} must come with the run that it is the configuration of; name the run")
    (folder / "best.yaml").write_text(dump_yaml(tiny_config({"epochs": 3})))
    assert "got none with its hash" in refusal(folder / "best.yaml")
    assert refusal(tmp_path / "alone" / "no.yaml").startswith(f"{tmp_path}/alone/no.yaml must be an existing file")
    assert refusal(tmp_path).startswith(f"{tmp_path} must be a configuration file or hold best.yaml or config.yaml")
    config, out = folder / "seed-1/config.yaml", folder / "seed-1"
    assert refusal(config, "--out", out) == f"out (--out) must be another folder than the original's, got {out}"
    edit(folder / "seed-1/result.json", status="stopped")
    assert refusal(config) == f"{out} must have trained to its end to be verified, got status stopped"


def test_differences_are_of_numbers_that_both_runs_have(tmp_path: Path) -> None:
    nan = float("nan")
    first = make_run(tmp_path / "first", (0.5, nan, 0.6), more={"target_val_top1": 0.6, "best_epoch": 3})
    second = make_run(tmp_path / "second", (0.5, nan), more={"target_val_top1": 0.6, "best_epoch": 3})
    compared, table = metric_differences(read_run(first), read_run(second))
    assert table[["column", "recorded"]].values.tolist() == [["epoch", 3], ["epochs_done", 3]]
    assert table["epoch"].isna().tolist() == [False, True]
    assert compared == 2 * 6 + 1 + len(read_run(first).result) - 1


def test_the_prediction_interval_holds_one_more_value_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(3000):
        *values, one_more = rng.normal(size=5)
        low, high = prediction_interval(values, 0.9)
        inside += low <= one_more <= high
    assert inside / 3000 == pytest.approx(0.9, abs=0.02)
    low, high = prediction_interval([1.0, 2.0, 4.0], 0.95)
    half = stats.t.ppf(0.975, 2) * np.std([1, 2, 4], ddof=1) * (4 / 3) ** 0.5
    assert (low, high) == pytest.approx((7 / 3 - half, 7 / 3 + half))
    assert all(map(np.isnan, prediction_interval([1.0], 0.95)))


def _last_loss(folder: Path) -> float:
    return float(read_epochs(folder / "seed-0")[-1]["target_val_loss"])


def _count(folder: Path) -> int:
    record = read_run(folder / "seed-0")
    return sum(not name.startswith("seconds_") for row in record.epochs for name in row) + len(record.result) - 2
