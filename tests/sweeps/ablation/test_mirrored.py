"""An ablation on W&B and its copy elsewhere: the real client against a stand-in of its server; nothing trains."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from click.testing import CliRunner
from rich.console import Console

from analysis import load_trials, load_wandb
from mergenet.cli.main import cli
from mergenet.config.loading import dump_yaml
from mergenet.errors import ConfigError
from mergenet.records.atomic import write_text
from mergenet.records.sealed import write_record
from sweeps.ablation.api import Ablation
from sweeps.ablation.best_of import best_trials
from sweeps.ablation.folder import adjusted, load_folder, write_new
from sweeps.ablation.plan import AblationPlan, plan_ablation
from sweeps.ablation.results.result import AblationResult
from sweeps.ablation.run import left, resume_ablation, rounds
from sweeps.config.loading import dump_sweep
from sweeps.tracking.remote_copy import claim, fetch, filesystem, sizes
from sweeps.tracking.wandb_mirror import Mirror
from sweeps.trials.files import read_state
from tests.sweeps.ablation.ablations import ablation_of, begun, planned, write_finished
from tests.sweeps.base import base_config, sweep_config, write_base
from tests.sweeps.folders import planned as planned_sweep
from tests.sweeps.folders import write_sweep
from tests.sweeps.wandb_base import client
from tests.wandb_server import OPERATIONS, Artifact, WandbServer

pytest.importorskip("wandb_workspaces")

pytestmark = pytest.mark.slow  # W&B's real client and a server of our own

VALUES = {"transfer.t_cycle": [4]}
NAMES = ["centre", "centre-seed-2", "t_cycle-4", "t_cycle-4-seed-2"]
ALL = {f"tiny-ablation-{name}" for name in (*NAMES, "summary")}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with WandbServer() as made, client(tmp_path, monkeypatch, made.url):
        yield made


def plan_of(mode: str) -> AblationPlan:
    return planned(ablation_of(values=VALUES, seeds=2, wandb={"mode": mode}))


def trained(plan: AblationPlan, folder: Path) -> None:
    """As if all had trained: the second variant is better by ten points."""
    for found in plan.jobs(folder).values():
        for job in found:
            write_finished(job, 0.5 + 0.1 * (job["params"] != {}) + 0.01 * job["config"]["seed"])


def go_on(plan: AblationPlan, folder: Path) -> list[str]:
    """What a driver says that has nothing left to train, its mirror's thread included."""
    said = io.StringIO()
    resume_ablation(plan, folder, Console(file=said, width=500), None)
    wandb.teardown()
    return said.getvalue().splitlines()


def table_in(server: WandbServer, key: str) -> dict[str, Any]:
    (body,) = {body for name, body in server.files.items() if f"media/table/{key}_" in name}
    found: dict[str, Any] = json.loads(body)
    return found


def check_whole(server: WandbServer) -> None:
    assert server.runs.keys() == ALL
    for name in NAMES:
        run = server.runs[f"tiny-ablation-{name}"]
        assert (run.epochs, run.exit_code, run.about["groupName"]) == ([1], 0, "tiny-ablation")
        assert run.about["tags"] == ["ablation", "complete"]
        varied = "t_cycle" in name
        about = (run.setting("transfer_t_cycle"), run.setting("searched"))
        assert about == ((4, "transfer.t_cycle") if varied else (2, "")), "the centre has a place on the axis too"
    seeds = [server.runs[f"tiny-ablation-{name}"] for name in ("t_cycle-4", "t_cycle-4-seed-2")]
    assert seeds[0].setting("variant") == seeds[1].setting("variant")
    assert seeds[1].setting("replicate_of") == "t_cycle-4"
    summary = server.runs["tiny-ablation-summary"]
    assert (summary.exit_code, summary.about["jobType"]) == (0, "summary")
    assert summary.about["tags"] == ["ablation", "complete"]
    assert summary.summary["gain_t_cycle-4"] == pytest.approx(0.1)
    assert (summary.summary["runs_complete"], summary.summary["table_metric"]) == (4, "target_test_top1")
    table = table_in(server, "ablation")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["variant"], row["n"]) for row in rows] == [("centre", 2), ("t_cycle 4", 2)]
    assert rows[0]["gain"] is None and rows[1]["gain"] == pytest.approx(0.1)


def published(server: WandbServer) -> list[Artifact]:
    """But for those that the client makes of each table in a run."""
    return [one for one in server.artifacts if one.kind != "run_table"]


def check_published(server: WandbServer, folder: Path, project: str = "mergenet") -> None:
    """The table in its formats and the centre, as the folder has them; and one view with the table and the gains."""
    table, centre = published(server)
    assert (table.name, table.kind, table.version, table.state) == (
        "tiny-ablation-ablation",
        "ablation",
        0,
        "COMMITTED",
    )
    assert (centre.name, centre.kind, centre.version) == ("tiny-ablation-config", "config", 0)
    assert table.aliases == {"tiny-ablation", "latest"}
    assert centre.aliases == {"centre", "tiny-ablation", "latest"}
    facts = {"table_metric": "target_test_top1", "runs_complete": 4, "gain_t_cycle-4": pytest.approx(0.1)}
    assert table.metadata == centre.metadata == facts
    own = {"ablation.csv", "ablation.md", "ablation.tex", "ablation.yaml"}
    for artifact, names in ((table, own), (centre, {"base.yaml"})):
        place = f"artifact/{artifact.id}/"
        files = {name.removeprefix(place): body for name, body in server.files.items() if name.startswith(place)}
        assert files == {name: (folder / name).read_bytes() for name in names}
    (view,) = server.views.values()
    assert (view["displayName"], view["projectName"]) == ("tiny-ablation: table, gains, curves", project)
    section = view["spec"]["section"]
    (runs,) = section["runSets"]
    group = {"key": {"section": "run", "name": "group"}, "value": "tiny-ablation"}
    assert runs["filters"]["filters"][0].items() >= group.items()
    assert runs["grouping"] == [{"section": "config", "name": "variant.value"}]
    parts = {part["name"]: part["panels"] for part in section["panelBankConfig"]["sections"] if part["panels"]}
    assert list(parts) == ["Table", "Gain over centre, paired by seed", "Curves by variant, with their spread"]
    (shown,), (gain, objective), lines = parts.values()
    assert shown["config"]["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"] == "ablation"
    assert gain["config"]["metrics"] == ["gain_t_cycle-4"]
    assert objective["config"].items() >= {"metrics": ["objective"], "groupBy": "variant.value"}.items()
    curve = {"xAxis": "epoch", "groupBy": "variant.value", "groupArea": "stddev"}
    assert all(line["config"].items() >= curve.items() for line in lines) and len(lines) == 3
    url = server.runs["tiny-ablation-summary"].setting("workspace")
    assert url.startswith(f"{server.url}/stand-in/{project}?nw=")


def test_runs_that_were_there_and_the_table_are_mirrored_once(server: WandbServer, tmp_path: Path) -> None:
    """Such as runs of an earlier sweep, which no worker tells of."""
    plan, folder = plan_of("online"), tmp_path / "a"
    begun(folder, plan)
    trained(plan, folder)
    assert [line for line in go_on(plan, folder) if "wandb" in line] == []
    check_whole(server)
    check_published(server, folder)
    files = sorted(folder.glob("wandb/run-*"))
    assert len(files) == 5
    own = read_state(folder)["study_id"]
    assert own and {run.setting("sweep_id") for run in server.runs.values()} == {own}
    go_on(plan, folder)
    assert sorted(folder.glob("wandb/run-*")) == files, "nothing is left to mirror"
    assert read_state(folder)["study_id"] == own
    done = CliRunner().invoke(cli, ["sweep", "sync", str(folder)])
    assert done.exit_code == 0, done.output
    check_published(server, folder)


def test_more_seeds_are_new_versions_and_the_view_stays(server: WandbServer, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    for seeds in (2, 3):
        plan = planned(ablation_of(values=VALUES, seeds=seeds, wandb={"mode": "online"}))
        if seeds == 2:
            begun(folder, plan)
        for found in plan.jobs(folder).values():
            for job in found:
                if not Path(job["folder"]).exists():
                    write_finished(job, 0.5 + 0.1 * (job["params"] != {}) + 0.01 * job["config"]["seed"])
        assert [line for line in go_on(plan, folder) if "wandb" in line] == []
    assert CliRunner().invoke(cli, ["sweep", "sync", str(folder)]).exit_code == 0  # as no driver has trained them
    versions = [(one.name, one.version, one.aliases) for one in published(server)]
    assert versions == [
        ("tiny-ablation-ablation", 0, set()),
        ("tiny-ablation-config", 0, {"centre", "tiny-ablation", "latest"}),
        ("tiny-ablation-ablation", 1, {"tiny-ablation", "latest"}),
    ]
    assert len(server.views) == 1, "a user may have changed it since"


def test_what_is_refused_costs_a_line_each(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.refuse_artifacts = True
    monkeypatch.delitem(OPERATIONS, "UpsertView2")
    plan, folder = plan_of("online"), tmp_path / "a"
    begun(folder, plan)
    trained(plan, folder)
    artifacts, view = (line for line in go_on(plan, folder) if "wandb" in line)
    assert artifacts.startswith("wandb: not all artifacts are there (")
    assert artifacts.endswith("what they hold is in the folder of tiny-ablation")
    assert view.startswith("wandb: no workspace view (")
    assert (published(server), server.views) == ([], {})
    check_whole(server)


def test_offline_and_sync_of_the_folder(server: WandbServer, tmp_path: Path) -> None:
    plan, folder = plan_of("offline"), tmp_path / "a"
    begun(folder, plan)
    trained(plan, folder)
    (line,) = [line for line in go_on(plan, folder) if "wandb" in line]
    assert line.startswith("wandb: artifacts and the workspace are not made offline; `mergenet sweep sync ")
    assert server.runs == {}
    assert len(list(folder.glob("wandb/offline-run-*"))) == 5
    done = CliRunner().invoke(cli, ["sweep", "sync", str(folder)])
    assert (done.exit_code, done.output) == (0, "4 runs are whole online, 4 epochs were added to 4 of them\n")
    check_whole(server)
    check_published(server, folder)


def test_sync_fills_w_and_b_from_the_records_alone(server: WandbServer, tmp_path: Path) -> None:
    plan, folder = plan_of("disabled"), tmp_path / "a"
    begun(folder, plan)
    done = CliRunner().invoke(cli, ["sweep", "sync", str(folder)])
    assert (done.exit_code, done.output) == (0, "0 runs are whole online, 0 epochs were added to 0 of them\n")
    trained(plan, folder)
    go_on(plan, folder)
    assert not (folder / "wandb").exists()
    done = CliRunner().invoke(cli, ["sweep", "sync", str(folder), "--project", "other"])
    assert done.exit_code == 0, done.output
    check_whole(server)
    assert {run.project for run in server.runs.values()} == {"other"}
    check_published(server, folder, "other")
    done = CliRunner().invoke(cli, ["sweep", "sync", str(folder), "--mode", "offline", "--project", "p"])
    assert (done.exit_code, "--project must go with --mode online" in done.output) == (2, True)


def test_a_confirmation_has_its_candidates_and_who_is_named(server: WandbServer, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    trials = [({"transfer.t_cycle": cycle}, [0.5, value]) for cycle, value in ((2, 0.6), (4, 0.8))]
    searched = planned_sweep(tmp_path / "in", {"transfer.t_cycle": {"choice": [2, 4]}}, num_trials=2)
    _, variants, left_out = best_trials(write_sweep(tmp_path / "sweep", searched, trials), 2)
    ablation = ablation_of(components=False, top=2, seeds=2, wandb={"mode": "online"})
    plan, folder = plan_ablation(ablation, variants, left_out), tmp_path / "best"
    begun(folder, plan)
    value = {"no-transfer": 0.5, "trial-001": 0.55, "trial-000": 0.6}
    for count in rounds(plan):
        for job in left(plan, plan.jobs(folder), count):
            write_finished(job, value[job["id"].partition("-seed")[0]] + job["config"]["seed"] / 1000)
    assert [line for line in go_on(plan, folder) if "wandb" in line] == []
    summary = server.runs["tiny-ablation-summary"].summary
    assert (summary["best"], summary["seeds_chose"], summary["seeds_told"]) == ("trial-000", [1, 2], [3, 4])
    assert (summary["gain"], summary["num_pairs"]) == (pytest.approx(0.1), 2)
    assert [name for name in summary if name.startswith("gain_trial")] == ["gain_trial-000"]
    table = table_in(server, "candidates")
    assert table["columns"] == ["name", "search", "fresh", "seeds", "rejected"], "none was stopped early"
    fresh = [pytest.approx(value) for value in (0.5515, 0.6015)]
    assert table["data"] == [["trial-001", 0.8, fresh[0], 2, 2], ["trial-000", 0.6, fresh[1], 2, None]]
    for job in ("no-transfer", "trial-001-seed-2", "summary"):
        assert server.runs[f"tiny-ablation-{job}"].about["tags"] == ["confirm", "ablation", "complete"]
    table, config = published(server)
    assert (table.name, config.name, config.aliases) == (
        *("tiny-ablation-ablation", "tiny-ablation-config"),
        {"best", "tiny-ablation", "latest"},
    )
    assert config.metadata["best"] == "trial-000"
    assert server.files[f"artifact/{config.id}/best.yaml"] == (folder / "best.yaml").read_bytes()
    (view,) = server.views.values()
    parts = {part["name"]: part["panels"] for part in view["spec"]["section"]["panelBankConfig"]["sections"]}
    shown = [panel["config"]["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"] for panel in parts["Table"]]
    assert shown == ["ablation", "candidates"]
    assert "Gain over no transfer, paired by seed" in parts


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(("mode", "seeds"), [("online", [4, 2]), ("offline", [4, 2]), ("online", [4, 2, 2, 1])])
def test_who_was_rejected_has_the_seeds_that_it_got(tmp_path: Path, mode: str, seeds: list[int]) -> None:
    """W&B was told of all of them when the first seed ended, and a table from W&B waited for the others."""
    (tmp_path / "in").mkdir()
    count, cycles = len(seeds), [2, 4, 8, 16][: len(seeds)]
    trials = [({"transfer.t_cycle": cycle}, [0.5, 0.6 + cycle / 100]) for cycle in cycles]
    searched = planned_sweep(tmp_path / "in", {"transfer.t_cycle": {"choice": cycles}}, num_trials=count)
    _, variants, left_out = best_trials(write_sweep(tmp_path / "sweep", searched, trials), count)
    ablation = ablation_of(components=False, top=count, seeds=2, wandb={"mode": mode})
    plan, folder = plan_ablation(ablation, variants, left_out), tmp_path / "best"
    begun(folder, plan)
    value = {"no-transfer": 0.5} | {f"trial-{number:03}": 0.6 - number / 50 for number in range(count)}
    for job in left(plan, plan.jobs(folder), 1):
        write_finished(job, value[job["id"]])
    mirror = Mirror(plan.as_sweep.sweep, folder, print)
    mirror.catch_up(folder / "trials" / name for name in value)
    mirror.close()
    wandb.teardown()
    for so_many in rounds(plan):
        for job in left(plan, plan.jobs(folder), so_many):
            write_finished(job, value[job["id"].partition("-seed")[0]] + job["config"]["seed"] / 1000)
    go_on(plan, folder)
    table = load_wandb("stand-in/mergenet/tiny-ablation" if mode == "online" else str(folder)).set_index("trial")
    own = load_trials(folder).set_index("trial")
    assert dict(table["state"]) == dict(own["state"]) == dict.fromkeys(value, "complete")
    got = {"no-transfer": 4} | {f"trial-{number:03}": each for number, each in enumerate(seeds)}
    assert dict(table["seeds"]) == dict(own["seeds"]) == got
    files = sorted(folder.glob("wandb/*run-*"))
    go_on(plan, folder)
    assert sorted(folder.glob("wandb/*run-*")) == files, "nothing is left to say"


def test_a_mirror_can_be_asked_for_later_and_is_that_of_the_sweep(tmp_path: Path) -> None:
    plan = plan_of("disabled")
    folder = begun(tmp_path / "a", plan)

    wandb_of = adjusted(folder, {"wandb": {"mode": "offline"}}).wandb
    assert (wandb_of.mode, wandb_of.project) == ("offline", "mergenet")
    assert load_folder(folder).wandb.mode == "disabled", "who goes on with it writes it"
    with pytest.raises(ConfigError, match=r"wandb.log_model must be false in an ablation"):
        ablation_of(values=VALUES, wandb={"log_model": True})


def test_without_a_key_it_is_refused_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client(tmp_path, monkeypatch):
        monkeypatch.delenv("WANDB_API_KEY")
        wandb.teardown()
        with pytest.raises(ConfigError, match="or set --wandb offline"):
            plan_of("online")


def test_the_copy_has_the_table_and_goes_on_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file://{tmp_path}/copies/one"
    plan, folder = plan_of("disabled"), tmp_path / "a"
    folder.mkdir()

    claim(url, folder, "tiny-ablation")
    write_new(plan, folder, url)
    trained(plan, folder)
    assert [line for line in go_on(plan, folder) if "copy" in line] == []
    own = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert sizes(filesystem(url)).keys() == own - {".lock"} | {"copy.json"}
    assert {"ablation.csv", "ablation.json", "trials/centre/trial.json"} <= own
    copied = json.loads((tmp_path / "copies/one/ablation.json").read_text())
    assert copied["status"] == "finished" and len(copied["table"]) == 2
    again = fetch(url, tmp_path / "elsewhere")
    assert AblationResult.load(again).table["n"].tolist() == [2, 2]
    assert read_state(again)["copy"] == url
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path)
    for given, there in ((f"file://{tmp_path}/two", url), (url, None)):
        place = again if there else begun(tmp_path / "b", plan)
        done = CliRunner().invoke(cli, ["sweep", "ablate", str(place), "--copy-to", given])
        assert done.exit_code == 2
        assert f"copy_to (--copy-to) must be {there or 'none'}, as it was when the ablation in" in done.output


def test_a_url_with_a_key_and_one_that_is_taken_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path)
    arguments = ["sweep", "ablate", "base.yaml", "--values", "transfer.t_cycle=4", "--dir", "a", "--copy-to"]
    done = CliRunner().invoke(cli, [*arguments, "s3://me:secret@bucket/place"])
    assert (done.exit_code, "must hold no user, key or password" in done.output) == (2, True)
    assert "secret" not in done.output and not (tmp_path / "a").exists()


def test_the_mirror_of_a_sweep_is_inherited(tmp_path: Path) -> None:

    folder = tmp_path / "sweep"
    folder.mkdir()
    write_base(folder)
    wandb_of = {"mode": "offline", "project": "mine", "log_model": True}
    sweep = sweep_config({"transfer.t_cycle": {"choice": [2, 4]}}, wandb=wandb_of)
    write_text(folder / "sweep.yaml", dump_sweep(sweep))
    write_record(folder / "sweep.json", {"status": "finished"})
    write_text(folder / "best.yaml", dump_yaml(base_config()))
    (folder / "trials").mkdir()
    made = Ablation.load(folder, values=VALUES, seeds=2)
    assert made.config.wandb.model_dump() == {"mode": "offline", "project": "mine", "log_model": False}
    made = Ablation.load(folder, values=VALUES, seeds=2, wandb={"mode": "disabled"})
    assert (made.config.wandb.mode, made.config.wandb.project) == ("disabled", "mine")
