"""The sweep's files on W&B: the real client against a stand-in of its server."""

from pathlib import Path

import pytest
import wandb
from click.testing import CliRunner

from mergenet.records.atomic import write_text
from mergenet.records.checkpoint import load_tensors
from mergenet.records.sealed import write_record
from sweeps.cli.commands import sweep as sweep_group
from sweeps.tracking.wandb_mirror import Mirror
from tests.mergenet.runs import finish
from tests.sweeps.wandb_base import SUMMARY, record, sweep_folder
from tests.tiny import tiny_config
from tests.wandb_server import WandbServer

GAIN = {f"gain_target_test_top1_{key}": value for key, value in (("mean", 0.05), ("p", 0.5), ("num_pairs", 1))}


def with_files(folder: Path) -> None:
    write_text(folder / "best.yaml", "seed: 1\n")
    write_text(folder / "report.html", "<p>told</p>\n")


def test_the_best_and_the_report_are_versioned_artifacts(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "online")
    said: list[str] = []
    for content, place in (("seed: 1\n", 0), ("seed: 1\n", 0), ("seed: 2\n", -1)):
        with_files(folder)
        write_text(folder / "best.yaml", content)
        mirror = Mirror(sweep, folder, said.append)
        mirror.summarize(SUMMARY)
        mirror.close()
        assert said == []
        config = [one for one in server.artifacts if one.name == "tiny-config"][place]
        assert server.files[f"artifact/{config.id}/best.yaml"] == content.encode()
        assert config.aliases == {"best", "tiny", "latest"}
    names = [(one.name, one.kind, one.version, one.state) for one in server.artifacts]
    assert names == [
        ("tiny-config", "config", 0, "COMMITTED"),
        ("tiny-report", "report", 0, "COMMITTED"),
        ("tiny-config", "config", 1, "COMMITTED"),
    ], "equal content is no new version"
    assert server.artifacts[0].aliases == set(), "the new version has them now"
    assert server.artifacts[0].metadata.items() >= {"trial": "trial-000", "target_val_top1": 0.2, **GAIN}.items()
    assert server.files["artifact/A2/report.html"] == b"<p>told</p>\n"


@pytest.mark.usefixtures("tiny")
def test_the_best_network_is_one_only_where_it_is_asked_for(server: WandbServer, tmp_path: Path) -> None:
    for asked in (False, True):
        sweep, folder = sweep_folder(tmp_path, "online")
        sweep = sweep.model_copy(update={"wandb": sweep.wandb.model_copy(update={"log_model": asked})})
        if asked:
            finish(tiny_config({"epochs": 1}), folder / "trials/trial-000")
        said: list[str] = []
        mirror = Mirror(sweep, folder, said.append)
        mirror.summarize(SUMMARY)
        mirror.close()
        assert not [line for line in said if "artifact" in line]
        assert [one.name for one in server.artifacts] == (["tiny-network"] if asked else [])
    assert (server.artifacts[0].kind, server.artifacts[0].aliases) == ("model", {"best", "tiny", "latest"})
    weights = tmp_path / "again.safetensors"
    weights.write_bytes(server.files["artifact/A1/target.safetensors"])
    assert load_tensors(weights)[1]["architecture"].startswith("tiny")
    assert b"import torch" in server.files["artifact/A1/target.py"], "the code that reads them"


@pytest.mark.usefixtures("tiny")
def test_the_network_is_that_of_best_yaml(server: WandbServer, tmp_path: Path) -> None:
    """Of a trial with several seeds both are of the last; what they are of is beside them."""
    sweep, folder = sweep_folder(tmp_path, "online")
    sweep = sweep.model_copy(update={"wandb": sweep.wandb.model_copy(update={"log_model": True})})
    with_files(folder)
    for seed, job in ((0, "trial-000"), (7, "trial-000-seed-2")):
        path = finish(tiny_config({"epochs": 1, "seed": seed}), folder / "trials" / job)
        about = {"trial_id": job, "role": "trial", "params": {}, "number": 0, "seed": seed}
        write_record(path / "trial.json", about | {"state": "complete", "error": None, "seeds": [0, 7]})
    mirror = Mirror(sweep, folder, print)
    mirror.summarize(SUMMARY)
    mirror.close()
    config, _, network = server.artifacts
    assert (config.name, network.name) == ("tiny-config", "tiny-network")
    weights = tmp_path / "again.safetensors"
    weights.write_bytes(server.files[f"artifact/{network.id}/target.safetensors"])
    found, own = load_tensors(weights)[0], load_tensors(folder / "trials/trial-000-seed-2/best.safetensors")[0]
    assert all(tensor.equal(own[name]) for name, tensor in found.items())
    about = {"trial": "trial-000", "run": "trial-000-seed-2", "seed": 7}
    assert config.metadata.items() >= about.items() and network.metadata == config.metadata


def test_artifacts_that_are_refused_cost_a_line(server: WandbServer, tmp_path: Path) -> None:
    server.refuse_artifacts = True
    sweep, folder = sweep_folder(tmp_path, "online")
    with_files(folder)
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    mirror.summarize(SUMMARY)
    mirror.close()
    assert len(said) == 1
    assert said[0].startswith("wandb: not all artifacts are there (")
    assert "no artifacts here" in said[0]
    run = server.runs["tiny-summary"]
    assert (run.summary["best_trial"], run.summary["state"], run.exit_code) == ("trial-000", "complete", 0)
    assert run.about["tags"] == ["complete"]


def test_a_network_that_cannot_be_exported_costs_a_line(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "online")
    sweep = sweep.model_copy(update={"wandb": sweep.wandb.model_copy(update={"log_model": True})})
    with_files(folder)
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    mirror.summarize(SUMMARY)  # its best trial has no folder
    mirror.close()
    assert len(said) == 1 and "must be a run folder" in said[0]
    assert [one.name for one in server.artifacts] == ["tiny-config", "tiny-report"]
    assert server.runs["tiny-summary"].exit_code == 0


def test_offline_there_are_none_and_sync_makes_them(server: WandbServer, tmp_path: Path) -> None:
    sweep, folder = sweep_folder(tmp_path, "offline")
    with_files(folder)
    record(folder, "trial-000", 1)
    write_record(folder / "summary.json", SUMMARY)
    said: list[str] = []
    mirror = Mirror(sweep, folder, said.append)
    mirror.summarize(SUMMARY)
    mirror.close()
    assert said[0].startswith("wandb: artifacts and the workspace are not made offline; `mergenet sweep sync")
    wandb.teardown()
    done = CliRunner().invoke(sweep_group, ["sync", str(folder)])
    assert done.exit_code == 0, done.output
    assert [one.name for one in server.artifacts] == ["tiny-config", "tiny-report"]
    trial = server.runs["tiny-trial-000"]
    assert trial.setting("summary_run") == "tiny-summary"
    assert f"[tiny-summary]({server.url}/stand-in/mergenet/runs/tiny-summary)" in trial.about["notes"]
