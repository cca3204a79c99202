"""The command line: `mergenet train openmoji`.

torch is imported when a command runs, so that `mergenet --help` stays quick.
"""

import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

import mergenet
from mergenet.commands import CommandGroup, Failure, TrainCommand, worker
from mergenet.config import Config
from mergenet.configfile import load_config, presets
from mergenet.errors import CheckpointError, TrainingDiverged

if TYPE_CHECKING:
    from mergenet.layers import LayerInfo

CONFIG = click.argument("config", metavar="CONFIG")
RUN = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
SET = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a setting: --set transfer.t_cycle=4. Repeatable.",
)
PRESETS = f"CONFIG is a YAML file or a preset: {', '.join(presets())}."


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(mergenet.__version__, prog_name="mergenet")
def cli() -> None:
    """Knowledge transfer between two networks by mapping parameters of one onto parameters of the other.

    \b
    Start:  mergenet train digits
    """


@cli.command(
    cls=TrainCommand,
    short_help="Train into a run folder.",
    help=f"Train CONFIG into a run folder; an unfinished run goes on.\n\n{PRESETS}",
)
@CONFIG
@SET
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Run folder.  [default: runs/NAME-HASH]")
def train(config: str, settings: tuple[str, ...], out: Path | None) -> None:
    from mergenet.record import config_hash

    checked = load_config(config, settings)
    folder = out or Path("runs") / f"{checked.name}-{config_hash(checked)}"
    again = _command("train", config, *(f"--set={value}" for value in settings), *([f"--out={out}"] if out else []))
    from mergenet.distributed import torchrun_group

    try:
        with torchrun_group(checked.device):
            _train(checked, folder)
    except KeyboardInterrupt:
        raise Failure(f"interrupted; {_resume(folder, again)}", 130) from None
    except TrainingDiverged as error:
        raise Failure(f"{error}; the epochs before it are in {folder}/epochs.jsonl", 1) from error


def _train(config: Config, folder: Path) -> None:
    from mergenet.distributed import is_main
    from mergenet.progress import exhaust, show_progress
    from mergenet.record import FINISHED
    from mergenet.run import run

    console = _console(quiet=not is_main())
    status, done = _recorded(folder)
    if status == FINISHED:
        console.print(f"{folder} is finished; this is its record", soft_wrap=True)
    elif done:
        console.print(f"resuming {folder} after epoch {done} of {config.epochs}", soft_wrap=True)
    exhaust(show_progress(run(config, folder), config.epochs, console, recorded=done))
    if is_main():
        _summary(folder, console)


def _recorded(folder: Path) -> tuple[str | None, int]:
    """Status and number of finished epochs of the run in a folder; (None, 0) where there is none."""
    from mergenet.record import CONFIG_FILE, EPOCHS_DONE, STATUS, read_result

    if not (folder / CONFIG_FILE).exists():
        return None, 0
    result = read_result(folder)
    return result[STATUS], result[EPOCHS_DONE]


def _resume(folder: Path, again: str) -> str:
    try:
        status, done = _recorded(folder)
    except CheckpointError as error:  # of no weight beside the interruption, and told again by the next start
        return str(error)
    if status is None:
        return "nothing was written"
    return f"epochs 1 to {done} are kept in {folder}; to go on: {again}" if done else f"to start again: {again}"


def _summary(folder: Path, console: Console) -> None:
    from mergenet.progress import selecting_metric
    from mergenet.record import BEST_EPOCH, read_result

    result = read_result(folder)
    selector = selecting_metric(result, "target")
    lines = [f"best epoch   {result[BEST_EPOCH]} (by {selector})"]
    lines += [f"{'validation':<12} {_metric(selector, result[selector])}"] if selector else []
    tests = [_metric(name, value) for name, value in result.items() if name.startswith("target_test_")]
    lines += [f"{'test':<12} {', '.join(tests)}", f"{'run folder':<12} {folder}"]
    where = shlex.quote(str(folder))
    lines += [f"{'next':<12} mergenet evaluate {where}", f"{'':<12} mergenet export {where} --format onnx"]
    console.print("\n".join(["", *lines]), soft_wrap=True)


def _metric(name: str, value: float) -> str:
    """`target_test_top1`, 0.5 -> `top1 50.00%`; losses as they are."""
    short = name.split("_", 2)[2]
    return f"{short} {value:.4f}" if short == "loss" else f"{short} {value:.2%}"


@cli.command(
    short_help="List the layers that can take part.",
    help=f"List the layers of both networks that can take part in a transfer.\n\n{PRESETS}",
)
@CONFIG
@SET
def layers(config: str, settings: tuple[str, ...]) -> None:
    from mergenet.layers import list_layers
    from mergenet.learner import errors_of
    from mergenet.models import build_model
    from mergenet.tasks import build_task

    # who is looking for layers has no pairs yet, and without a method none are asked for
    checked = load_config(config, (*settings, "method=none"))
    console = _console()
    networks = (
        {"target": checked.target}
        if checked.source.kind == "self"
        else {"source": checked.source, "target": checked.target}
    )
    models = {}
    for role, network in networks.items():
        with errors_of(role):
            models[role] = build_model(network.model, build_task(network).num_outputs)
    for role, model in models.items():
        total = sum(parameter.numel() for parameter in model.parameters())
        _show_layers(f"{role}: {networks[role].model.name}, {total:,} parameters", list_layers(model), total, console)


def _show_layers(title: str, infos: Sequence["LayerInfo"], total: int, console: Console) -> None:
    head = ["layer", "kind", "weight", "matrix", "parameters", "share"]
    rows = [
        [
            i.name,
            i.kind,
            " x ".join(map(str, i.shape)),
            " x ".join(map(str, i.matrix)),
            f"{i.parameters:,}",
            f"{i.parameters / total:.1%}",
        ]
        for i in infos
    ]
    if console.is_terminal:
        from rich.table import Table

        table = Table(title=title, title_justify="left")
        for number, name in enumerate(head):
            table.add_column(name, justify="right" if number > 3 else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    console.print(title, soft_wrap=True)
    for row in [head, *rows]:
        console.print("  ".join(map(str.ljust, row, widths)).rstrip(), soft_wrap=True)


@cli.command(
    short_help="Train the source once, for replay.",
    help=f"Train the source of CONFIG once and write its layers down, for source.kind recorded.\n\n{PRESETS}",
)
@CONFIG
@SET
@click.option("--out", metavar="DIR", required=True, type=click.Path(path_type=Path), help="Folder of the recording.")
@click.option(
    "--layer", "names", metavar="L", multiple=True, help="Layer to record. Repeatable.  [default: of the pairs]"
)
@click.option("--every", metavar="N", type=click.IntRange(min=1), help="Steps between.  [default: transfer.t_cycle]")
def record(config: str, settings: tuple[str, ...], out: Path, names: tuple[str, ...], every: int | None) -> None:
    from mergenet.distributed import num_started
    from mergenet.progress import exhaust, show_progress
    from mergenet.source import record_source

    if num_started() > 1:
        raise Failure(f"a source must be recorded by one process, got {num_started()}; leave torchrun away", 2)
    checked = load_config(config, settings)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"--out must be a new or empty folder, got {str(out)!r}; choose another")
    chosen = names or tuple(dict.fromkeys(pair.source for pair in checked.transfer.pairs))
    console = _console()
    results = record_source(checked, out, chosen, every or checked.transfer.t_cycle)
    try:
        exhaust(show_progress(results, checked.epochs, console))
    except KeyboardInterrupt:
        raise Failure(f"interrupted; {out} is no whole recording: remove it and record again", 130) from None
    console.print(f"recorded {', '.join(chosen)} in {out}", soft_wrap=True)
    console.print(f"next: --set source.kind=recorded --set source.recording={shlex.quote(str(out))}", soft_wrap=True)


@cli.command(short_help="Measure a run's network again.")
@RUN
@click.option(
    "--split", type=click.Choice(["val", "test"]), default="test", show_default=True, help="What to measure on."
)
def evaluate(run: Path, split: str) -> None:
    """Measure the target network of RUN at its best epoch again."""
    from mergenet.evaluate import evaluate_run

    for name, value in evaluate_run(run, split).items():
        click.echo(f"{f'target_{split}_{name}':<20} {value!r}")


@cli.command(short_help="Write a run's network as a plain file.")
@RUN
@click.option("--format", "kind", metavar="FORMAT", required=True, help="safetensors, torch-export or onnx.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Written file.  [default: in RUN]")
def export(run: Path, kind: str, out: Path | None) -> None:
    """Write the target network of RUN as a plain, checked file, without any part of MergeNet."""
    from mergenet.export import export_run

    path = export_run(run, kind, out)
    click.echo(f"wrote {path} ({path.stat().st_size:,} bytes)")


def _console(quiet: bool = False) -> Console:
    return Console(highlight=False, markup=False, emoji=False, quiet=quiet)


def _command(*words: Any) -> str:
    return "mergenet " + shlex.join(map(str, words))


def main() -> None:
    warnings.formatwarning = lambda message, *_args, **_kwargs: f"warning: {message}\n"
    if worker() != "0":
        warnings.simplefilter("ignore")  # the first worker says it
    cli(prog_name="mergenet")


if __name__ == "__main__":
    main()
