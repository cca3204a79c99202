"""One small sweep from the command line to best.yaml and back, on the real Ray, Tune, Optuna, W&B and trainer."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from analysis.best import best_trial
from analysis.measures import best_so_far
from analysis.report.evidence import gather
from mergenet.config.loading import load_config
from mergenet.records.run_record import read_run
from mergenet.records.sealed import read_record
from mergenet.training.run import train_run
from sweeps.config.loading import dump_sweep, load_sweep
from tests.sweeps.base import CONV, HEAD, sweep_config, write_base
from tests.sweeps.sweep_command import CANARY, Done, holding, sweep_command, without_seconds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # a minute alone on two cores; the machine may be busy

CONFIRMED = [f"confirm-{role}-{number}" for number in (1, 2) for role in ("best", "none", "adapter", "noise")]
SEARCH = {
    "target.optimizer.lr": {"choice": [0.05, 1e9]},  # 1e9 diverges: such a trial must fail alone
    "transfer.pairs": {"choice": [[CONV], [HEAD]]},
    "transfer.adapter.rank": {"int": [2, 12], "log": True},
    "transfer.t_cycle": {"choice": [2, 4]},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    folder = tmp_path_factory.mktemp("sweep")
    write_base(folder)
    after = {"confirm_seeds": 2, "confirm_controls": ["noise"], "adapter_seeds": 2}
    sweep = sweep_config(SEARCH, num_trials=6, grace_epochs=1, **after, wandb={"mode": "offline"})
    (folder / "tiny.yaml").write_text(dump_sweep(sweep))
    with tempfile.TemporaryDirectory(prefix="mergenet-test-") as ray_folder:
        process, left_over = sweep_command(folder, "run", "tiny.yaml", ray_folder=Path(ray_folder))
        assert process.returncode == 0, process.stdout + process.stderr
        yield Done(folder / "sweep-results/tiny", process, left_over, Path(ray_folder))


def test_the_user_sees_the_sweeps_lines_only(done: Done) -> None:
    assert done.process.stderr == ""
    out = done.process.stdout
    assert "target: digits, 10 classes: train 260 images, val 229, test 270" in out
    assert "the source trains once, 2 layers recorded every 2 steps; all trials replay it" in out
    for name in ["source", "baseline", *(f"trial-{i:03d}" for i in range(6)), "adapter-1", "adapter-2", *CONFIRMED]:
        assert sum(line.startswith(f"{name} ") and " epochs " in line for line in out.splitlines()) == 1, name
    assert "confirmation, 2 fresh seeds, paired" in out
    assert "controls, same seeds, paired: the best configuration with noise for a source\n" in out
    for pair in ("noise minus no transfer", "best minus noise"):
        assert (
            sum(line.startswith(f"    {pair}, test top1 ") and " points, 95 % " in line for line in out.splitlines())
            == 1
        )
    assert "test top1: too few seeds to show anything at the 5 % level: smallest p of 2 seeds is 2/2^2 = 0.5" in out
    assert "target seeds are fresh; the source and the data split are those of the search" in out
    assert "  mergenet train sweep-results/tiny/best.yaml" in out.splitlines()  # relative, as a user would type it
    assert "\x1b" not in out  # no control characters in a pipe
    assert "WARNING" not in out


def test_nothing_keeps_running(done: Done) -> None:
    assert done.left_over == []


def test_a_diverging_trial_fails_alone(done: Done) -> None:
    trials = done.summary["trials"]
    assert len(trials) == 6
    for trial in trials:
        diverging = trial["params"]["target.optimizer.lr"] > 1
        assert (trial["state"] == "failed") == diverging
        assert (trial["error"] is not None) == diverging
    assert {trial["state"] for trial in trials} >= {"failed", "complete"}


def test_the_study_tells_the_same_as_the_records(done: Done) -> None:
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{done.folder / 'study.db'}")
    names = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    ours = {trial["trial_id"]: trial for trial in done.summary["trials"]}
    theirs = {trial.user_attrs["trial_id"]: trial for trial in study.trials}
    assert theirs.keys() == ours.keys()
    for name, trial in theirs.items():
        assert trial.state.name == names[ours[name]["state"]]
        assert trial.params["transfer.t_cycle"] == ours[name]["params"]["transfer.t_cycle"]
        if trial.state.name == "COMPLETE":
            assert trial.value == ours[name]["value"]
        if trial.state.name != "FAIL":
            rows = read_run(done.folder / "trials" / name).epochs
            assert trial.intermediate_values == best_so_far(rows, "target_val_top1"), "the last epoch too"
    assert study.best_value == done.summary["best"]["value"]


def test_the_first_trial_is_the_base(done: Done) -> None:
    first = done.summary["trials"][0]["params"]
    expected = {
        "target.optimizer.lr": 0.05,
        "transfer.pairs": [CONV],
        "transfer.adapter.rank": 4,
        "transfer.t_cycle": 2,
    }
    assert first == expected


def test_the_source_was_trained_once(done: Done) -> None:
    recording = read_record(done.folder / "source/recording.json")
    assert (set(recording["layers"]), recording["every"]) == ({"layer3.0.conv2", "fc"}, 2)
    for folder in (done.folder / "trials").iterdir():
        if not (folder / "config.yaml").exists():  # failed before its first epoch
            continue
        record = read_run(folder)
        if record.config["method"] == "mergenet":
            assert record.config["source"]["kind"] == "recorded"
            assert all(row.get("seconds_source", 0) == 0 for row in record.epochs)


def test_confirmation_is_paired_and_kept_from_the_search(done: Done) -> None:
    found = done.summary["confirmation"]
    assert found["seeds"] == [1, 2]
    best, none = (found["target_val_top1"][side] for side in ("best", "none"))
    gain = found["target_val_top1"]["gain"]
    assert gain["mean"] == pytest.approx(sum(b - n for b, n in zip(best, none, strict=True)) / 2)
    assert (gain["num_pairs"], gain["smallest_p"]) == (2, 0.5)
    assert found["target_test_top1"]["gain"]["num_pairs"] == 2
    for role in ("best", "none"):
        record = read_run(done.folder / f"trials/confirm-{role}-1")
        assert record.config["seed"] == 1
        assert record.config["source"]["seed"] == 0  # the source stays what it was


def test_the_control_replays_the_same_source_beside_the_best(done: Done) -> None:
    found = done.summary["confirmation"]["controls"]["noise"]
    assert found["seeds"] == [1, 2]
    best, noise = (read_run(done.folder / f"trials/confirm-{role}-1").config for role in ("best", "noise"))
    assert noise == best | {"name": "confirm-noise-1", "transfer": best["transfer"] | {"control": "noise"}}
    assert noise["source"]["kind"] == "recorded"
    for metric in ("target_val_top1", "target_test_top1"):
        sides = done.summary["confirmation"][metric]
        assert found[metric]["gain"]["mean"] + found[metric]["best_minus_control"]["mean"] == pytest.approx(
            sides["gain"]["mean"]
        )


def test_the_adapter_is_trained_seed_after_seed_and_tested_on_the_fresh_ones(done: Done) -> None:
    runs = {name: read_run(done.folder / "trials" / name) for name in ("adapter-1", "adapter-2", "confirm-adapter-1")}
    configs = {name: run.config for name, run in runs.items()}
    starts = {name: config["transfer"]["adapter"]["init"] for name, config in configs.items()}
    assert starts["adapter-1"] is None
    assert [Path(starts[name]).name for name in ("adapter-2", "confirm-adapter-1")] == ["adapter-1", "adapter-2"]
    assert [configs[name]["seed"] for name in configs] == [3, 4, 1], "it is tested on seeds that did not train it"
    for name, before in (("adapter-2", "adapter-1"), ("confirm-adapter-1", "adapter-2")):
        content = (done.folder / "trials" / before / "adapter.safetensors").read_bytes()
        assert runs[name].provenance["weights_hashes"] == {"adapter": hashlib.sha256(content).hexdigest()}
    trained = done.summary["confirmation"]["adapter"]
    assert trained["seeds"] == [1, 2]
    for metric in ("target_val_top1", "target_test_top1"):
        gain = done.summary["confirmation"][metric]["gain"]["mean"]
        assert trained[metric]["gain"]["mean"] - trained[metric]["minus_best"]["mean"] == pytest.approx(gain)
    assert done.summary["adapter"] == "trials/adapter-2"
    out = done.process.stdout
    assert "the best configuration with the adapter trained over adapter_seeds, same seeds, paired" in out
    assert "trained adapter: transfer.adapter.init=sweep-results/tiny/trials/adapter-2" in out


def test_best_yaml_trains_to_exactly_the_same_metrics(done: Done, tmp_path: Path) -> None:
    best = read_run(done.folder / "trials" / done.summary["best"]["trial_id"])
    config = load_config(str(done.folder / "best.yaml"))
    assert config.source.kind == "live"
    again = [result.row() for result in train_run(config, tmp_path / "again")]
    assert [without_seconds(row) for row in again] == [without_seconds(row) for row in best.epochs]
    assert read_run(tmp_path / "again").result == best.result
    header = (done.folder / "best.yaml").read_text()
    assert str(best.result["target_test_top1"]) in header
    assert "torch " in header


def test_the_mirror_has_a_run_for_each_job(done: Done) -> None:
    runs = list(done.folder.glob("wandb/offline-run-*/*.wandb"))
    assert len(runs) == 1 + 6 + 2 + 8 + 1  # baseline, trials, adapter, confirmations, the sweep itself


def test_every_trial_that_reported_has_its_tensorboard_files(done: Done) -> None:
    for folder in (done.folder / "trials").iterdir():
        epochs = folder / "epochs.jsonl"  # empty of a trial that failed in its first epoch
        reported = epochs.exists() and epochs.stat().st_size > 0
        assert bool(list(folder.glob("tensorboard/events.*"))) == reported


def test_no_key_is_written_anywhere(done: Done) -> None:
    """The sweep folder, W&B's files, what is printed, the folder of this sweep's own Ray session."""
    assert len(list(done.ray_folder.glob("ray/session_2*"))) == 1
    files, bad = holding([done.folder, done.ray_folder], [CANARY])
    assert any(path.suffix == ".wandb" for path in files)
    assert any(path.suffix == ".log" for path in files)
    assert bad == []
    assert CANARY not in done.process.stdout + done.process.stderr


def test_the_sweep_folder_says_what_it_was(done: Done) -> None:
    state = read_record(done.folder / "sweep.json")
    assert (state["status"], state["error"]) == ("finished", None)
    assert state["seeds"] == {"search": 0, "trials": 0, "confirmation": [1, 2]}
    assert {"mergenet", "ray", "optuna", "torch"} <= state["versions"].keys()
    assert load_sweep(str(done.folder / "sweep.yaml")).num_trials == 6


def test_a_finished_sweep_shows_its_summary_again(done: Done) -> None:
    process, _ = sweep_command(done.folder.parents[1], "run", "tiny.yaml")
    assert (process.returncode, process.stderr) == (0, "")
    first, *rest = process.stdout.splitlines()
    assert first == "sweep tiny is finished in sweep-results/tiny; this is its summary"
    assert done.process.stdout.endswith("\n".join(rest) + "\n")


def test_both_ways_to_the_best_agree(done: Done) -> None:
    assert best_trial(done.folder)["trial"] == done.summary["best"]["trial_id"]


def test_the_report_tells_the_numbers_of_the_summary(done: Done) -> None:
    assert "report: sweep-results/tiny/report.html" in done.process.stdout.splitlines()
    best, found = done.summary["best"], gather(done.folder)
    assert found.best is not None and found.best["trial"] == best["trial_id"] and not found.is_running
    told, metric = done.summary["confirmation"], done.summary["metric"]
    for name in (metric, metric.replace("_val_", "_test_")):
        assert found.confirmed is not None and found.confirmed[name]["gain"] == pytest.approx(told[name]["gain"])
        for side, key in (("noise", "best_minus_control"), ("adapter", "minus_best")):
            ours, theirs = ((one if side == "adapter" else one["controls"])[side] for one in (found.confirmed, told))
            assert ours["seeds"] == theirs["seeds"]
            assert ours[name]["gain"] == pytest.approx(theirs[name]["gain"])
            assert ours[name][key] == pytest.approx(theirs[name][key])
    assert f"{best['trial_id']}: " in (done.folder / "report.md").read_text()


def test_a_folder_with_another_sweep_is_refused(done: Done) -> None:
    process, _ = sweep_command(done.folder.parents[1], "run", "tiny.yaml", "--set", "num_trials=3")
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.startswith("error: the sweep folder must be new or empty, got 'sweep-results/tiny', which")
    assert process.stderr.endswith("choose another folder (--dir), or delete it with overwrite=True (--overwrite)\n")


def test_bad_values_create_nothing(tmp_path: Path) -> None:
    write_base(tmp_path)
    sweep = sweep_config({"transfer.pairs": {"choice": [[CONV | {"target": "features.5.konv.2"}]]}})
    (tmp_path / "bad.yaml").write_text(dump_sweep(sweep))
    process, _ = sweep_command(tmp_path, "run", "bad.yaml")
    assert process.returncode == 2
    assert len(process.stderr.splitlines()) == 1
    assert "got 'features.5.konv.2'; did you mean features.5.conv.2" in process.stderr
    assert not (tmp_path / "sweep-results").exists()
