"""The command line: `mergenet train openmoji`.

torch is imported when a command runs, so that `mergenet --help` stays fast.
"""

import errno
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mergenet
from mergenet.cli.group import CommandGroup, Failure, TrainCommand, worker
from mergenet.cli.paths import PATH
from mergenet.cli.plain_json import json_text
from mergenet.config.preset_names import presets
from mergenet.errors import CheckpointError, TrainingDiverged, visible
from mergenet.export import FORMAT_NAMES

if TYPE_CHECKING:
    from rich.console import Console

    from mergenet.config import Config

CONFIG = click.argument("config", metavar="CONFIG")
RUN = click.argument("run", metavar="RUN", type=PATH)
SET = click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a setting: --set transfer.t_cycle=4. Repeatable.",
)
FORMATS = f"{', '.join(FORMAT_NAMES[:-1])} or {FORMAT_NAMES[-1]}."
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
@click.option("--out", metavar="DIR", type=PATH, help="Run folder.  [default: runs/NAME-HASH]")
@click.option("--overwrite", is_flag=True, help="Delete the run that the run folder holds, then train.")
def train(config: str, settings: tuple[str, ...], out: Path | None, overwrite: bool) -> None:
    from mergenet.records.run_record import config_hash

    checked = _load(config, settings)
    folder = out or Path("runs") / f"{checked.name}-{config_hash(checked)}"
    again = _command("train", config, *(f"--set={value}" for value in settings), *([f"--out={out}"] if out else []))
    from mergenet.learner.distributed import torchrun_group

    try:
        with torchrun_group(checked.device):
            _train(checked, folder, overwrite)
    except KeyboardInterrupt:
        raise Failure(f"interrupted; {_resume(folder, again)}", 130) from None
    except TrainingDiverged as error:
        raise Failure(f"{error}; the epochs before it are in {folder}/epochs.jsonl", 1) from error


def _train(config: "Config", folder: Path, overwrite: bool) -> None:
    from mergenet.cli.progress import exhaust, show_log, show_progress
    from mergenet.learner.distributed import is_main
    from mergenet.records.run_record import FINISHED, METRIC, read_result
    from mergenet.training.run import check_same, has_its_epochs, recorded, train_run
    from mergenet.training.unchanged import check_finished

    console = _console(quiet=not is_main())
    status, done = (None, 0) if overwrite else _recorded(folder)
    if status is not None:
        check_same(config, folder)
    finished = status == FINISHED and has_its_epochs(folder)
    if finished:
        check_finished(config, folder)
        console.print(f"{folder} is finished; this is its record", soft_wrap=True)
    elif status == FINISHED:
        done = 0
    elif done:
        console.print(f"resuming {folder} after epoch {done} of {config.epochs}", soft_wrap=True)
    results = recorded(folder) if finished else train_run(config, folder, overwrite=overwrite)
    with show_log(console):
        exhaust(show_progress(results, config.epochs, console, done, lambda: read_result(folder)[METRIC]))
    if is_main():
        _summary(folder, console)


def _recorded(folder: Path) -> tuple[str | None, int]:
    """Status and number of finished epochs of the run in a folder; (None, 0) where there is none."""
    from mergenet.records.run_record import CONFIG_FILE, EPOCHS_DONE, STATUS, read_result

    if not (folder / CONFIG_FILE).exists():
        return None, 0
    result = read_result(folder)
    return result[STATUS], result[EPOCHS_DONE]


def _resume(folder: Path, again: str) -> str:
    try:
        status, done = _recorded(folder)
    except CheckpointError as error:  # less important than the interruption, and reported again at the next start
        return str(error)
    if status is None:
        return "nothing was written"
    return f"epochs 1 to {done} are kept in {folder}; to go on: {again}" if done else f"to start again: {again}"


def _summary(folder: Path, console: "Console") -> None:
    from mergenet.cli.progress import shown
    from mergenet.records.run_record import BEST_EPOCH, METRIC, SOURCE_BEST_EPOCH, read_result

    result = read_result(folder)
    selector = result[METRIC]
    lines = [
        f"best epoch   {result[BEST_EPOCH]} (by {selector})",
        f"{'validation':<12} {shown(selector, result[selector])}",
        f"{'test':<12} {_all_shown(result, 'target_test_')}",
    ]
    if SOURCE_BEST_EPOCH in result:  # the source received transfers too
        best = f"best epoch {result[SOURCE_BEST_EPOCH]}, validation {_all_shown(result, 'source_val_')}"
        lines.append(f"{'source':<12} {best}; test {_all_shown(result, 'source_test_')}")
    lines.append(f"{'run folder':<12} {folder}")
    where = shlex.quote(str(folder))
    lines += [f"{'next':<12} mergenet evaluate {where}", f"{'':<12} mergenet export {where} --format safetensors"]
    console.print("\n".join(["", *lines]), soft_wrap=True)


def _all_shown(result: dict[str, Any], prefix: str) -> str:
    from mergenet.cli.progress import shown

    return ", ".join(shown(name, value) for name, value in result.items() if name.startswith(prefix))


@cli.command(
    short_help="List the layers that can take part.",
    help="List the layers of both networks that can take part in a transfer, with their matrices, the largest rank "
    f"that each allows, and their shares of the network's parameters and compute.\n\n{PRESETS}",
)
@CONFIG
@SET
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def layers(config: str, settings: tuple[str, ...], as_json: bool) -> None:
    from mergenet.cli.layers_table import show_network, survey
    from mergenet.learner.learner import errors_of

    # whoever looks for layers has no pairs yet, and method none needs none
    checked = _load(config, settings, method="none")
    networks = {"source": checked.source, "target": checked.target}
    if checked.source.kind == "self":
        del networks["source"]
    surveys = {}
    for role, network in networks.items():
        with errors_of(role):
            surveys[role] = survey(network, receives=role == "target")
    if as_json:
        click.echo(json_text(surveys, indent=2))
        return
    for role, found in surveys.items():
        show_network(role, found, _console())


@cli.command(
    short_help="See what stands in the way of a transfer.",
    help="See before training what stands in the way of a transfer: the share of the source's weight that is shown, "
    "the part of the target's that can be written, the space in which they meet, the updates that the adapter will "
    "get, and whether the source knows more. Trains a few steps, about a minute for small networks; writes nothing."
    "\n\n"
    f"{PRESETS}",
)
@CONFIG
@SET
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def diagnose(config: str, settings: tuple[str, ...], as_json: bool) -> None:
    from mergenet.cli.diagnose_text import show_diagnosis
    from mergenet.training.diagnose import diagnose as looked_at

    facts = looked_at(_load(config, settings))
    if as_json:
        click.echo(json_text(facts, indent=2))
    else:
        show_diagnosis(facts, _console())


@cli.command(
    short_help="Train the source once, for replay.",
    help=f"Train the source of CONFIG once and record its layers, for source.kind recorded.\n\n{PRESETS}",
)
@CONFIG
@SET
@click.option("--out", metavar="DIR", required=True, type=PATH, help="Folder of the recording.")
@click.option(
    "--layer", "names", metavar="L", multiple=True, help="Layer to record. Repeatable.  [default: of the pairs]"
)
@click.option("--every", metavar="N", type=click.IntRange(min=1), help="Steps between.  [default: transfer.t_cycle]")
def record(config: str, settings: tuple[str, ...], out: Path, names: tuple[str, ...], every: int | None) -> None:
    from mergenet.cli.progress import exhaust, show_log, show_progress
    from mergenet.learner.distributed import num_started
    from mergenet.records.run_record import CHECKPOINT_FOLDER
    from mergenet.transfer.pairs import resolve_pairs
    from mergenet.transfer.source import record_source

    if num_started() > 1:
        raise Failure(f"a source must be recorded by one process, got {num_started()}; leave torchrun away", 2)
    checked = _load(config, settings)
    begun: tuple[str, ...] = (".*.tmp*", "epoch-0001.safetensors")  # what a kill leaves before the first checkpoint
    if (out / CHECKPOINT_FOLDER).is_dir():
        begun = (".*.tmp*", "epoch-*.safetensors", CHECKPOINT_FOLDER)  # a run has more
    free = out.is_dir() and all(any(path.match(one) for one in begun) for path in out.iterdir())
    if out.exists() and not free:
        raise CheckpointError(f"--out must be a new or empty folder, got {str(out)!r}; choose another")
    chosen = names or tuple(dict.fromkeys(pair.source for pair in resolve_pairs(checked).transfer.written_pairs))
    console = _console()
    results = record_source(checked, out, chosen, every or checked.source.record_every or checked.transfer.t_cycle)
    try:
        with show_log(console):
            exhaust(show_progress(results, checked.epochs, console))
    except KeyboardInterrupt:
        raise Failure("interrupted; the same command goes on after the last whole epoch", 130) from None
    console.print(f"recorded {', '.join(chosen)} in {out}", soft_wrap=True)
    console.print(f"next: --set source.kind=recorded --set source.recording={shlex.quote(str(out))}", soft_wrap=True)


@cli.command(short_help="Evaluate a run's network again.")
@RUN
@click.option(
    "--split", type=click.Choice(["val", "test"]), default="test", show_default=True, help="Split to evaluate on."
)
def evaluate(run: Path, split: str) -> None:
    """Evaluate the target network of RUN at its best epoch again; what differs from RUN's record is an error."""
    from mergenet.export.evaluate import evaluate_run

    for name, value in evaluate_run(run, split).items():
        click.echo(f"{f'target_{split}_{name}':<20} {value!r}")


@cli.command(short_help="Export a run's network as a plain file.")
@RUN
@click.option("--format", "kind", metavar="FORMAT", required=True, help=FORMATS)
@click.option("--out", metavar="FILE", type=PATH, help="Written file.  [default: in RUN]")
@click.option("--measure/--no-measure", default=True, show_default=True, help="Compare the metrics with RUN's first.")
def export(run: Path, kind: str, out: Path | None, measure: bool) -> None:
    """Export the target network of RUN as a plain, checked file without any part of MergeNet."""
    from mergenet.export.formats import export_run

    for path in export_run(run, kind, out, measure):
        click.echo(f"wrote {path} ({path.stat().st_size:,} bytes)")


def _load(config: str, settings: Sequence[str], method: str | None = None) -> "Config":
    from mergenet.config.loading import load_config

    return load_config(config, settings, method)


def _console(quiet: bool = False) -> "Console":
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, quiet=quiet)


def _command(*words: Any) -> str:
    return "mergenet " + shlex.join(map(str, words))


def main() -> None:
    warnings.formatwarning = lambda message, *_args, **_kwargs: f"warning: {visible(str(message))}\n"
    if worker() != "0":
        warnings.simplefilter("ignore")  # only the first worker warns
    try:
        cli(prog_name="mergenet")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or what is left to write fails once more when Python ends
        click.echo(f"error: what is printed could not be written: {error.strerror}; make room where it goes", err=True)
        sys.exit(2)
