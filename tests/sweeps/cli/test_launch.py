"""Files for clusters: they parse, hold what their readers require, ask for a token, and hold no secret."""

import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from mergenet.errors import ConfigError
from sweeps.cli.commands import sweep as command
from sweeps.cli.launch import OPTIONS, TEMPLATES, Launch, check_options, render
from sweeps.config.loading import dump_sweep
from sweeps.execution.resources import FORKED
from tests.sweeps.base import sweep_config, write_base

LAUNCH = Launch(
    name="My_sweep.1",
    sweep="quickstart",
    folder="/shared/sweeps/mine",
    nodes=3,
    cpus=8,
    gpus=2,
    hours=1.5,
    partition="long",
    hosts=("10.0.0.1", "10.0.0.2", "10.0.0.3"),
    ssh_key="~/.ssh/id_ed25519",
    image="registry.example.org/mergenet:0.1",
    claim="shared",
)
RUN = (
    "export RAY_AUTH_MODE=token; if [ -e /shared/sweeps/mine/sweep.json ]; "
    "then mergenet sweep resume /shared/sweeps/mine --address auto; "
    "else mergenet sweep run quickstart --dir /shared/sweeps/mine --address auto; fi"
)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_file_is_whole_and_private(kind: str) -> None:
    text = render(kind, LAUNCH)
    assert "@{" not in text
    assert RUN in text, "it runs or resumes, as a driver of the running Ray"
    assert "RAY_AUTH_MODE=token" in text
    assert "0.0.0.0" not in text
    assert not re.search(r"(?i)(api_key|password|auth_token=)\s*\S", text)


@pytest.mark.parametrize("kind", ["job", "slurm"])
def test_scripts_are_bash(kind: str) -> None:
    subprocess.run(["bash", "-n"], input=render(kind, LAUNCH), text=True, check=True)
    subprocess.run(["bash", "-n", "-c", RUN], check=True)


def test_slurm() -> None:
    lines = render("slurm", LAUNCH).splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = {line.removeprefix("#SBATCH --") for line in lines[:first] if line.startswith("#SBATCH")}
    assert options >= {"nodes=3", "ntasks-per-node=1", "exclusive", "time=01:30:00", "gpus-per-node=2"}
    assert {"partition=long", "cpus-per-task=8"} <= options
    assert not [line for line in lines[first:] if line.startswith("#SBATCH")], "SLURM reads none after a command"
    text = "\n".join(lines)
    assert 'symmetric-run --address "$address:6379" --min-nodes 3' in text
    assert text.index("ray stop --force") < text.index("symmetric-run"), "an earlier one refuses the token"
    assert text.index("umask 077") < text.index('> "$RAY_AUTH_TOKEN_PATH"')
    assert "gpus-per-node" not in render("slurm", replace(LAUNCH, gpus=0))


def test_kuberay_has_the_fields_of_a_rayjob() -> None:
    job = yaml.safe_load(render("kuberay", LAUNCH))
    assert (job["apiVersion"], job["kind"], job["metadata"]["name"]) == ("ray.io/v1", "RayJob", "my-sweep-1")
    spec = job["spec"]
    assert spec["entrypoint"] == f"bash -c '{RUN}'"
    assert spec["shutdownAfterJobFinishes"] is True
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert tuple(map(int, cluster["rayVersion"].split(".")[:2])) >= (2, 52), "older ones know no token"
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}, "of strings"
    [group] = cluster["workerGroupSpecs"]
    assert (group["groupName"], group["replicas"], group["maxReplicas"]) == ("workers", 3, 3)
    for template in (cluster["headGroupSpec"]["template"], group["template"]):
        check_pod(template["spec"])
    [head] = cluster["headGroupSpec"]["template"]["spec"]["containers"]
    assert "env" not in head, "two cores: Ray starts one process at a time, which leaves one for the rest"
    assert "env" not in group["template"]["spec"]["containers"][0]
    assert head["resources"]["limits"]["memory"] == "8Gi"
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2


def check_pod(pod: dict[str, Any]) -> None:
    [container] = pod["containers"]
    assert container["image"] == "registry.example.org/mergenet:0.1"
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["volumeMounts"] == [{"name": "shared", "mountPath": "/shared/sweeps"}]
    assert pod["volumes"] == [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}]
    assert container["envFrom"] == [{"secretRef": {"name": "mergenet-secrets", "optional": True}}], "no secret here"


def test_ray_up_is_what_ray_accepts() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(render("ray-up", LAUNCH))
    assert config["provider"] == {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2", "10.0.0.3"]}
    validate_config(prepare_config(config))
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token ray start " in commands[-1]
    head = config["head_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in head
    assert "RAY_enable_autoscaler_v2=0" in head, "Ray's second autoscaler starts no workers of a local provider"
    assert config["auth"] == {"ssh_user": "ubuntu", "ssh_private_key": "~/.ssh/id_ed25519"}
    assert yaml.safe_load(render("ray-up", replace(LAUNCH, ssh_key=None)))["auth"] == {"ssh_user": "ubuntu"}


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("job", {"folder": "sweeps/mine"}, "--dir must be an absolute path on storage that all nodes share, got 'sw"),
        ("job", {"folder": "/shared/$(rm -rf ~)"}, "folder must hold only letters, digits and ._:/@+- to be written"),
        ("slurm", {"partition": "long\n#SBATCH --mail"}, "partition must hold only letters, digits"),
        ("ray-up", {"ssh_key": "key; rm"}, "ssh_key must hold only letters, digits"),
        ("ray-up", {"hosts": ()}, "--hosts must be given with --to ray-up, got nothing"),
        ("kuberay", {"image": None}, "--image must be given with --to kuberay, got nothing"),
        ("kuberay", {"claim": "a: b"}, "claim must hold only letters, digits"),
    ],
)
def test_values_that_a_file_cannot_hold(kind: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        render(kind, replace(LAUNCH, **changes))
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


CHANGED = {
    **{"nodes": 5, "cpus": 7, "gpus": 1, "memory_gib": 9, "hours": 3.0, "partition": "short"},
    **{"hosts": ("h",), "user": "me", "ssh_key": "/k", "image": "other", "claim": "other"},
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_an_option_changes_the_files_that_it_is_of_and_is_refused_for_others(kind: str) -> None:
    for name, value in CHANGED.items():
        changes = render(kind, replace(LAUNCH, **{name: value})) != render(kind, LAUNCH)
        assert changes == (name in OPTIONS[kind]), name
        if not changes:
            with pytest.raises(
                ConfigError, match=rf"^--{name.replace('_', '-')} must be left out with --to {kind}, it"
            ):
                check_options(kind, [name])
    check_options(kind, OPTIONS[kind])


@pytest.mark.parametrize("kind", ["job", "slurm", "ray-up"])
def test_a_sweep_file_is_found_from_wherever_the_driver_starts(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its base, which it names as seen from here."""
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path)
    Path("mine.yaml").write_text(dump_sweep(sweep_config({"transfer.t_cycle": {"choice": [2, 4]}})))
    options = ["--dir", "/shared/quick", "--print", *(["--hosts", "a,b"] if kind == "ray-up" else [])]
    done = CliRunner().invoke(command, ["launch", "mine.yaml", "--to", kind, *options])
    assert f"cd {tmp_path} || exit 1; export RAY_AUTH_MODE=token; if" in done.stdout, done.output
    assert f"mergenet sweep run {tmp_path}/mine.yaml --dir /shared/quick" in done.stdout
    pods = ["--dir", "/shared/quick", "--print", "--image", "i", "--claim", "c"]
    there = CliRunner().invoke(command, ["launch", "mine.yaml", "--to", "kuberay", *pods])
    assert there.stderr.startswith("error: the sweep must be a shipped name or an absolute path, here and in the pods")


def test_a_sweep_that_cannot_run_is_not_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_base(tmp_path)
    Path("mine.yaml").write_text(dump_sweep(sweep_config({"transfer.t_cycel": {"choice": [2, 4]}})))
    done = CliRunner().invoke(command, ["launch", "mine.yaml", "--to", "job", "--dir", "/x", "--print"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: search.transfer.t_cycel must be a known setting")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"transfer.pairs": {"layers": {"source": "nowhere.*", "target": "*"}}}}, "nowhere.*"),
        ({"metric": "target_val_loss"}, "metric must be target_val_"),
        ({"warm_start": ["earlier"]}, "earlier"),
    ],
)
@pytest.mark.parametrize("kind", ["job", "kuberay"])
def test_layers_metric_and_earlier_sweeps_are_checked_before_a_cluster_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, changes: dict[str, Any], message: str
) -> None:
    """But keys and data, and for pods all folders, may be on the cluster only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # without a .netrc
    write_base(tmp_path)
    file = tmp_path / "mine.yaml"
    options = ["--to", kind, "--dir", "/shared/quick", "--print"]
    options += ["--image", "i", "--claim", "c"] if kind == "kuberay" else []
    settings = {"search": {"transfer.t_cycle": {"choice": [2, 4]}}, "wandb": {"mode": "online"}}
    file.write_text(dump_sweep(sweep_config(**settings)))
    good = CliRunner().invoke(command, ["launch", str(file), *options])
    assert good.exit_code == 0, good.output
    file.write_text(dump_sweep(sweep_config(**settings | changes)))
    done = CliRunner().invoke(command, ["launch", str(file), *options])
    if kind == "kuberay" and "search" not in changes:
        assert done.exit_code == 0, done.output
    else:
        assert (done.exit_code, done.stdout) == (2, "")
        assert message in done.stderr
        assert done.stderr.startswith("error: ")


def test_the_command_prints_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--dir", "/shared/quick", "--nodes", "4"]
    done = CliRunner().invoke(command, ["launch", "quickstart", "--to", "slurm", "--print", *options])
    assert done.exit_code == 0, done.output
    assert "#SBATCH --nodes=4" in done.stdout
    assert list(tmp_path.iterdir()) == []
    silent = CliRunner().invoke(command, ["launch", "quickstart", "--to", "slurm", *options])
    assert silent.exit_code == 2
    assert "--print must be given" in silent.stderr
    bad = CliRunner().invoke(command, ["launch", "quickstrat", "--to", "slurm", "--print", *options])
    assert bad.stderr.startswith("error: the sweep must be one of ")


def test_the_head_of_many_slots_has_the_memory_for_them(tmp_path: Path) -> None:
    write_base(tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_text(dump_sweep(sweep_config({"transfer.t_cycle": {"choice": [2, 4]}}, slots=256)))
    pods = ["--to", "kuberay", "--dir", "/shared/quick", "--print", "--image", "i", "--claim", "c"]
    done = CliRunner().invoke(command, ["launch", str(file), *pods])
    assert done.exit_code == 0, done.output
    [head] = yaml.safe_load(done.stdout)["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    base, group, relay = FORKED
    assert head["resources"]["limits"]["memory"] == f"{math.ceil(1.5 * (base + 256 * relay + 32 * group) / 1024)}Gi"
