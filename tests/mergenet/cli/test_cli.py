"""The command line as a user meets it: real commands on real data, their output, messages and exit codes."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from mergenet.cli.layers_table import HEAD, show_network
from mergenet.cli.main import cli
from mergenet.cli.progress import describe, exhaust, show_progress
from mergenet.config.loading import dump_yaml, field_table, load_config
from mergenet.config.preset_names import presets
from mergenet.errors import CheckpointError
from mergenet.export.evaluate import evaluate_run
from mergenet.records.run_record import EpochResult
from mergenet.records.sealed import read_record
from tests.records import edit_record

ROOT = Path(__file__).parents[3]
FAILED = "error: the command hello (plug:hello) could not be loaded:"
QUICK = [
    *("--set=target.data.train_fraction=0.2", "--set=source.data.train_fraction=0.2"),
    *("--set=target.data.image_size=8", "--set=source.data.image_size=8", "--set=epochs=2"),
]
COMMAND = [sys.executable, "-m", "mergenet.cli"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def words(text: str) -> str:
    return " ".join(text.split())


# ---------------------------------------------------------------- help


def test_help_names_the_commands_and_the_first_step() -> None:
    text = call("--help").stdout
    assert "mergenet train digits" in text
    for command in ("train", "layers", "diagnose", "record", "export", "evaluate"):
        assert re.search(rf"^  {command} +\w.*\w\.$", text, re.MULTILINE)  # and no sentence is cut off


@pytest.mark.parametrize("width", [80, 100])
def test_train_help_shows_every_setting_with_type_default_and_meaning(width: int) -> None:
    result = CliRunner().invoke(cli, ["train", "--help"], terminal_width=width)
    assert all(len(line) <= width for line in result.stdout.splitlines())
    text = words(result.stdout)
    for field in field_table():
        if not field.path.startswith("source."):
            default = "required" if field.default == "required" else f"default {field.default}"
            key = field.path.split(".")[-1]
            assert f"{key} {words(field.description)} [{field.type}; {default}]" in text, field.path
    assert "default resnet_small" in text  # where the source differs from the target
    assert "source.optimizer.*" in text


def test_help_and_configuration_errors_import_neither_torch_nor_ray_nor_pandas() -> None:
    code = "import sys; from mergenet.cli.main import cli\ntry: cli(%r)\nexcept SystemExit: pass\n"
    code += "print([m for m in %r if m in sys.modules])"
    heavy = "torch", "ray", "pandas", "optuna", "wandb"
    looks = {("--help",): (*heavy, "pydantic", "rich", "yaml"), ("train", "--help"): heavy}
    for arguments, names in (looks | {("train", "digits", "--set=seed=x"): heavy}).items():
        program = code % (list(arguments), names)
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["train", "digit"],
         [f"error: the preset must be one of {', '.join(presets())}, got 'digit'; "
          "did you mean digits?; a file's name ends in .yaml or has a / in it"]),
        (["train", "digits", "--set", "seed=-1", "--set", "epochs=0"],
         ["error: seed must be >= 0, got -1 (in preset digits with --set)",
          "error: epochs must be >= 1, got 0 (in preset digits with --set)"]),
        (["train", "digits", "--set", "source.zzz=1"],
         ["error: source.zzz must be a known setting, got an unknown name; known here: task, model, data, optimizer, "
          "batch_size, augment, label_smoothing, seed, kind, recording"]),
        (["evaluate", "nowhere"],
         ["error: nowhere must be a run folder, but has no config.yaml; `mergenet train` writes one"]),
        (["record", "digits", "--out", "out", "--layer", "layer9"], ["error: layer must be one of conv1, "]),
        (["train", "digits", "--set", "transfer.pairs.0.target=features.5.conv.9"],
         ["error: transfer.pairs.0.target must be one of "]),
        (["train", "digits", "--set", "target.model.name=mobilenet"], ["error: "]),
        (["train", "digits", "--set", "target.data.name=digit"], ["error: "]),
        (["train", "digits", "--set", "transfer.adapter.rank=500"], ["error: "]),
        (["layers", "digits", "--set", "source.model.name=resnet_smal"], ["error: source.model.name must be one of "]),
        (["layers", "digits", "--set", "target.model.name=resnet_smal"], ["error: target.model.name must be one of "]),
        (["layers", "digits", "--set", "target.data.name=cifar10"], ["error: target.data.root must name the folder "]),
    ],
)  # fmt: skip
def test_a_mistake_is_a_line_on_stderr_and_leaves_nothing_behind(
    arguments: list[str], lines: list[str], tmp_path: Path
) -> None:
    result = call(*arguments, code=2)
    found = result.stderr.splitlines()
    assert len(found) == len(lines)
    assert all(line.startswith(start) for line, start in zip(found, lines, strict=True)), found
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["train"], "missing argument 'CONFIG' (see mergenet train --help)"),
        (["train", "digits", "--epochs", "3"], "no such option"),
        (["train", "digits", "more"], "got unexpected extra argument (more) (see mergenet train --help)"),
        (["record", "digits", "--out=x", "--every=0"], "invalid value for '--every': 0 is not in the range x>=1 (see "),
        (["evaluate", "x", "--split=all"], "invalid value for '--split': 'all' is not one of 'val', 'test' (see "),
        (["trian"], "no such command 'trian'"),
        (["--verbose"], "no such option"),
        (["--verbose", "train", "digits"], "no such option"),
        (["sweep", "--verbose"], "no such option"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_one_line(arguments: list[str], line: str) -> None:
    result = CliRunner().invoke(cli, arguments, prog_name="mergenet")
    assert result.exit_code == 2
    assert result.stdout == ""
    [found] = result.stderr.splitlines()
    assert found.startswith(f"error: {line}")
    command = arguments[0] + " " if arguments[0] in cli.list_commands(click.Context(cli)) else ""
    assert found.endswith(f" (see mergenet {command}--help)")


def test_no_command_at_all_shows_the_help() -> None:
    assert "mergenet train digits" in CliRunner().invoke(cli, []).output


def test_folders_that_are_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    assert "full must be empty or a run folder" in call("train", "digits", "--out=full", code=2).stderr
    assert "--out must be a new or empty folder, got 'full'" in call("record", "digits", "--out=full", code=2).stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
    for name in ("config.yaml", "checkpoints/epoch-0001.safetensors"):
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).touch()
    assert "--out must be a new or empty folder, got 'run'" in call("record", "digits", "--out=run", code=2).stderr
    (tmp_path / "file").touch()
    assert call("train", "digits", *QUICK, "--out=file/run", code=2).stderr.startswith("error: file")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device is Linux's")
@pytest.mark.parametrize("command", [["--help"], ["layers", "digits"]])
def test_a_full_disk_behind_the_output_is_one_line(command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        words = [*COMMAND, *command]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=ENVIRONMENT)
    told = "what is printed could not be written: No space left on device; make room where it goes"
    assert (done.returncode, done.stderr) == (2, f"error: {told}\n")


def test_a_file_that_is_there_is_a_configuration_whatever_its_ending(tmp_path: Path) -> None:
    (tmp_path / "best.txt").write_text(dump_yaml(load_config("digits")))
    assert load_config("best.txt") == load_config("digits")


def test_a_divergence_is_one_line_and_exit_code_1() -> None:
    result = call("train", "digits", *QUICK, "--set=target.optimizer.lr=1e30", "--out=run", code=1)
    assert re.match(
        r"error: target loss became \w+ by step \d+; .*; the epochs before it are in run/epochs.jsonl\n$", result.stderr
    )
    assert json.loads(Path("run/result.json").read_text())["status"] == "failed"


# ---------------------------------------------------------------- whole runs


def test_train_then_evaluate_export_and_train_again() -> None:
    result = call("train", "digits", *QUICK)
    counts = r"train \d+ images, val 229, test 270"
    networks, lines = result.stdout.splitlines()[:2], result.stdout.splitlines()[2:]
    for role, line in zip(("target", "source"), networks, strict=True):
        assert re.fullmatch(rf"{role}: digits, 10 classes: {counts}", line)
    figures = r"loss [\d.]+, val top1 [\d.]+%"
    for number, line in enumerate(lines[:2], start=1):
        assert re.fullmatch(rf"epoch {number}/2  target: {figures}  source: {figures}  [\d.]+ s", line)
    [folder] = Path("runs").iterdir()
    recorded = json.loads((folder / "result.json").read_text())
    assert f"best epoch   {recorded['best_epoch']} (by target_val_top1)" in lines
    assert f"validation   top1 {recorded['target_val_top1']:.2%}" in lines
    assert f"run folder   {folder}" in lines
    for split, record in (
        ("test", recorded),
        ("val", json.loads((folder / "epochs.jsonl").read_text().splitlines()[recorded["best_epoch"] - 1])),
    ):
        shown = dict(line.split() for line in call("evaluate", folder, "--split", split).stdout.splitlines())
        assert {name: float(value) for name, value in shown.items()} == {name: record[name] for name in shown}
        assert {f"target_{split}_{name}" for name in ("loss", "top1", "top5")} == set(shown)
    assert call("export", folder, "--format=safetensors").stdout.startswith(f"wrote {folder}/target.safetensors (")
    again = call("train", "digits", *QUICK).stdout.splitlines()
    assert again[0] == f"{folder} is finished; this is its record"
    assert [line.removesuffix("  (recorded)") for line in again[1:3]] == lines[:2]
    assert f"{folder} holds a run of another configuration" in call("train", "digits", f"--out={folder}", code=2).stderr


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_finished_run_that_lost_its_epochs_has_them_again(checkpoint: bool) -> None:
    arguments = ["train", "digits", "--set=method=none", *QUICK, "--out=run"]
    shown = call(*arguments).stdout.splitlines()[1:3]
    epochs = Path("run/epochs.jsonl")
    before = epochs.read_bytes()
    epochs.unlink()
    if not checkpoint:
        shutil.rmtree("run/checkpoints")
    damaged = r"run/epochs\.jsonl must hold 2 epochs by result\.json, got 0; it is damaged"
    with pytest.raises(CheckpointError, match=f"{damaged}; `mergenet train run/config.yaml --out run` makes it again"):
        evaluate_run(Path("run"), "test")
    told = "it is made again from" if checkpoint else "no checkpoint has its epochs: the run trains again"
    with warnings.catch_warnings(record=True, action="default") as caught:
        again = call("train", "run/config.yaml", "--out=run").stdout.splitlines()
    [message] = [str(one.message) for one in caught]
    assert re.match(damaged, message) and told in message
    assert ("run is finished; this is its record" in again) == checkpoint
    if checkpoint:
        assert epochs.read_bytes() == before
        assert [line.removesuffix("  (recorded)") for line in again[1:3]] == shown
    assert len(epochs.read_bytes().splitlines()) == 2
    call("evaluate", "run")


def test_a_source_that_receives_is_told_of_too() -> None:
    lines = call(*ONE_EPOCH, "--set=transfer.pairs.0.direction=both", "--out=run").stdout.splitlines()
    recorded = json.loads(Path("run/result.json").read_text())
    found = [line for line in lines if line.startswith("source  ")]
    val, test = recorded["source_val_top1"], recorded["source_test_top1"]
    assert len(found) == 1
    assert found[0].startswith(f"source       best epoch 1, validation top1 {val:.2%}; test ")
    assert f"top1 {test:.2%}" in found[0]


def test_a_recorded_source_gives_the_live_run() -> None:
    live = call("train", "digits", *QUICK, "--out=live").stdout
    result = call("record", "digits", *QUICK, "--out=source")
    assert "recorded layer3.0.conv2 in source" in result.stdout
    line = next(line for line in live.splitlines() if line.startswith("source: "))
    assert line.startswith("source: digits, 10 classes: train ") and result.stdout.splitlines().count(line) == 1
    replay = ["--set=source.kind=recorded", "--set=source.recording=source"]
    call("train", "digits", *QUICK, *replay, "--out=replayed")
    assert live
    first, second = (json.loads(Path(name, "result.json").read_text()) for name in ("live", "replayed"))
    assert first == second


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def strike_at(number: int, error: type[BaseException], for_good: bool, patch: pytest.MonkeyPatch) -> None:
    """Raise `error` instead of the n-th flush of a file or folder, and of all later ones if `for_good`."""
    calls, flush = itertools.count(), os.fsync

    def struck(descriptor: int) -> None:
        call = next(calls)
        if call == number or (for_good and call > number):
            raise error
        flush(descriptor)

    patch.setattr(os, "fsync", struck)


ONE_EPOCH = ["train", "digits", *QUICK[:-1], "--set=epochs=1"]
OPENING = 8  # flushes before the first epoch: configuration, provenance, epochs and result, of file and folder each


def test_a_run_killed_before_any_write_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    call(*ONE_EPOCH, "--out=whole")
    seen = set()
    for number in range(OPENING + 1):
        with monkeypatch.context() as patch:
            strike_at(number, Killed, True, patch)
            with pytest.raises(Killed):
                call(*ONE_EPOCH, f"--out=killed{number}")
        folder = Path(f"killed{number}")
        seen.add(tuple(sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))))
        call(*ONE_EPOCH, f"--out={folder}")
        assert (folder / "result.json").read_bytes() == Path("whole/result.json").read_bytes()
    assert {("config.yaml",), ("config.yaml", "provenance.json")} < seen
    assert {len(names) for names in seen} == {0, 1, 2, 3, 4, 5}


def test_ctrl_c_before_any_write_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(OPENING):
        with monkeypatch.context() as patch:
            strike_at(number, KeyboardInterrupt, False, patch)
            error = call(*ONE_EPOCH, f"--out=run{number}", code=130).stderr
        assert re.fullmatch(r"error: interrupted; (nothing was written|to start again: mergenet train .*)\n", error)


@pytest.mark.parametrize("content", ["{}", '{"status": "finished"}', '{"status": "stopped", "error": null}'])
def test_a_damaged_result_is_one_line(content: str) -> None:
    call(*ONE_EPOCH, "--out=run")
    Path("run/result.json").write_text(content)
    for arguments in (["train", *ONE_EPOCH[1:], "--out=run"], ["evaluate", "run"]):
        result = call(*arguments, code=2)
        assert re.fullmatch(r"error: run/result.json: \w+ must be .*, got nothing; .*\n", result.stderr)
    Path("run/result.json").unlink()
    assert "test         loss" in call(*ONE_EPOCH, "--out=run").stdout


@pytest.mark.slow
def test_ctrl_c_keeps_the_finished_epochs_and_says_how_to_go_on() -> None:
    """The finished epochs are those up to the last checkpoint, which is two seconds old at most."""
    arguments = ["train", "digits", *QUICK[:-1], "--set=epochs=900", "--out=run"]
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline()[:7] for _ in range(3)] == ["target:", "source:", "epoch  "]
        while not read_record(Path("run/result.json"))["epochs_done"]:
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    found = re.fullmatch(r"error: interrupted; epochs 1 to (\d+) are kept in run; to go on: (mergenet .*)\n", errors)
    assert found, errors
    assert json.loads(Path("run/result.json").read_text())["status"] == "stopped"
    done = int(found[1])
    assert 1 <= done <= len(Path("run/epochs.jsonl").read_text().splitlines())
    assert Path(f"run/checkpoints/epoch-{done:06d}").is_dir()
    edit_record(Path("run/provenance.json"), {"cpu": "Z80"})
    with subprocess.Popen(
        [*COMMAND, *found[2].split()[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"resuming run after epoch {done} of 900\n"
        lines = [process.stdout.readline() for _ in range(done + 3)]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert re.match(r"warning: run goes on with CPU .* \(was Z80\); .*\nerror: interrupted; epochs", errors)
    assert [line.rstrip().endswith("(recorded)") for line in lines] == [False] * 2 + [True] * done + [False]


def test_a_closed_pipe_is_quiet() -> None:
    with subprocess.Popen(
        [*COMMAND, "layers", "digits"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""


# ---------------------------------------------------------------- layers


def test_layers_names_set_only_where_it_was_given() -> None:
    Path("own.yaml").write_text("seed: -1\n")
    assert call("layers", "own.yaml", code=2).stderr == "error: seed must be >= 0, got -1 (in own.yaml)\n"
    assert call("layers", "own.yaml", "--set=seed=-2", code=2).stderr.endswith("got -2 (in own.yaml with --set)\n")


def test_layers_lists_both_networks_without_needing_pairs() -> None:
    Path("mine.yaml").write_text("source: {data: {name: digits}}\ntarget: {data: {name: digits}}\n")
    lines = call("layers", "mine.yaml").stdout.splitlines()
    titles = [line for line in lines if ": " in line]
    assert titles[0].startswith("source: resnet_small, ")
    assert titles[1].startswith("target: mobilenetv2_small, ")
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["classifier.1"][:8] == ["linear", "10", "x", "128", "10", "x", "128", "1,280"]
    total = int(titles[1].split()[-2].replace(",", ""))
    assert rows["classifier.1"][8] == f"{1280 / total:.1%}"
    assert rows["classifier.1"][9] == "10"
    assert re.split(r" {2,}", lines[1]) == HEAD
    head, row = lines[1], next(line for line in lines if line.startswith("layer3.0.conv2 "))
    assert len(head) == len(row)  # numbers are aligned right
    assert 0 < float(row.split()[-1].removesuffix("%")) < 100


@pytest.mark.parametrize(("kind", "roles"), [("live", ["source", "target"]), ("self", ["target"])])
def test_layers_as_json(kind: str, roles: list[str]) -> None:
    arguments = f"--set=source.kind={kind}", "--set=transfer.pairs=auto"
    found = json.loads(call("layers", "digits", "--json", *arguments).stdout)
    assert list(found) == roles
    last = found["target"]["layers"][-1]
    assert last["name"] == "classifier.1"
    assert last["compute"] == pytest.approx(2 * 1280 / found["target"]["flops"])


def test_layers_in_a_terminal_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"name": "fc", "kind": "linear", "weight": [3, 4], "matrix": [3, 4], "parameters": 12, "share": 0.5}
    found = {"model": "net", "parameters": 24, "flops": 10**9, "layers": [facts | {"largest_rank": 3, "compute": None}]}
    show_network("target", found, Console(force_terminal=True, width=120))
    text = capsys.readouterr().out
    assert "target: net, 1,000.00 MFLOPs an example, 24 parameters" in text
    assert re.search(r"fc\W+linear\W+3 x 4\W+3 x 4\W+12\W+50.0%\W+3\W+-", text)


# ---------------------------------------------------------------- plug-ins


@pytest.mark.parametrize(
    ("module", "listed", "code", "said"),
    [
        ("import click\n@click.command(help='Say hello.')\ndef hello(): print('hello')\n", "Say hello.", 0, "hello\n"),
        ("import nothing_of_that_name\n", "(could not be loaded", 1,
         f"{FAILED} ModuleNotFoundError: No module named 'nothing_of_that_name'\n"),
        ("hello = 3\n", "(could not be loaded", 1,
         f"{FAILED} it is not a click command\n"),
    ],
)  # fmt: skip
def test_commands_of_other_packages(tmp_path: Path, module: str, listed: str, code: int, said: str) -> None:
    (tmp_path / "plug.py").write_text(module)
    info = tmp_path / "plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mergenet.commands]\nhello = plug:hello\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    shown = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, env=environment, check=True).stdout
    assert re.search(rf"^  hello +{re.escape(listed)}", shown, re.MULTILINE)
    done = subprocess.run([*COMMAND, "hello"], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (code, said)


# ---------------------------------------------------------------- progress


def results(number: int, closed: list[bool]) -> Iterator[EpochResult]:
    try:
        for epoch in range(1, number + 1):
            metrics = {
                "target_train_loss": float("nan"),
                "target_val_loss": 1.0,
                "target_val_f1": 0.5,
                "seconds_target": 1.25,
            }
            yield EpochResult(epoch, epoch * 10, metrics)
    finally:
        closed.append(True)


MEASURED = {"loss": 1.5, "em": 0.25, "f1": 0.5}


def test_a_terminal_shows_a_bar_and_a_pipe_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    line = "epoch 1/2  target: loss nan, val f1 50.00%  1.2 s"
    exhaust(show_progress(results(2, []), 2, Console()))
    assert capsys.readouterr().out.splitlines()[0] == line
    exhaust(show_progress(results(2, []), 2, Console(force_terminal=True, width=100)))
    text = capsys.readouterr().out
    assert line in text
    assert re.search(r"2/2\S* epochs", text)
    assert describe(EpochResult(1, 1, {}), 2) == "epoch 1/2"
    assert describe(EpochResult(1, 1, {"seconds_target": 0.04}), 2) == "epoch 1/2  0.0 s"
    metrics = {f"{role}_val_{name}": value for role in ("target", "source") for name, value in MEASURED.items()}
    assert describe(EpochResult(1, 1, metrics), 2) == "epoch 1/2  target: val em 25.00%  source: val em 25.00%"
    selected = describe(EpochResult(1, 1, metrics), 2, "target_val_f1")
    assert selected == "epoch 1/2  target: val f1 50.00%  source: val f1 50.00%"


def test_stopping_early_closes_the_training() -> None:
    closed: list[bool] = []
    shown = show_progress(results(5, closed), 5, Console())
    next(shown)
    shown.close()
    assert closed == [True]


@pytest.mark.parametrize(
    ("left", "got"),
    [
        ({"WORLD_SIZE": "2"}, "'2' without RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "two", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "'two'"),
    ],
)
def test_a_world_size_that_was_left_behind_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left: dict[str, str], got: str
) -> None:
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(cli, ["train", "digits", "--out", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert done.output.endswith(
        f": WORLD_SIZE must be set by torchrun, got {got}; `unset WORLD_SIZE` trains in one process\n"
    )
    assert not (tmp_path / "run").exists()


def test_a_rank_that_was_left_behind_silences_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    done = CliRunner().invoke(cli, ["train", "nowhere.yaml"])
    assert done.output.startswith("error: nowhere.yaml must be")
