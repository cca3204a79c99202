"""`mergenet sweep`: search over training configurations. Ray and torch are imported when a sweep starts."""

import functools
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenet.cli.group import Failure
from mergenet.cli.paths import PATH
from mergenet.cli.plain_json import json_text
from mergenet.errors import UserError
from sweeps.cli.ablate_command import ablate_command, confirm_command
from sweeps.cli.failures import console_of, failures
from sweeps.cli.file_commands import init_command, keys_command
from sweeps.cli.finite import FiniteRange

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.config import SweepConfig


@click.group(short_help="Search for the best settings in parallel trials.")
def sweep() -> None:
    """Search over MergeNet's settings: trials in parallel, early stopping, a confirmed best."""


sweep.add_command(ablate_command)
sweep.add_command(confirm_command)
sweep.add_command(init_command)
sweep.add_command(keys_command)


class Workers(click.ParamType):  # type: ignore[type-arg]  # generic in recent versions of click only
    """N, or FEWEST-MOST for a group that grows and shrinks; converted to what a sweep file holds."""

    name = "N|MIN-MAX"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        parts = value.split("-")
        if not 1 <= len(parts) <= 2 or not all(part.isdecimal() for part in parts):
            self.fail(f"must be a number, as 2, or a range, as 1-4, got {value!r}", param, ctx)
        return parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"


class SweepCommand(click.Command):
    """A command with --set: an option that it lacks may be a key of the sweep file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = list(args)  # parsing empties it
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            option, key = error.option_name, error.option_name.lstrip("-").replace("-", "_")
            if key not in sweep_keys():
                raise
            word = next((at for at, word in enumerate(words) if word.partition("=")[0] == option), len(words))
            given = words[word].partition("=")[2] if word < len(words) else ""
            after = words[word + 1] if word + 1 < len(words) and not words[word + 1].startswith("-") else "VALUE"
            written = shlex.quote(f"{key}={given or after}")
            raise click.UsageError(f"no such option {option}; write --set {written}", ctx) from error


def sweep_keys() -> set[str]:
    """The keys of a sweep file."""
    from sweeps.config import SweepConfig

    return {field.alias or name for name, field in SweepConfig.model_fields.items()}


# option -> the key of the sweep file that it changes
EXECUTOR_OPTIONS = {
    "executor": "executor",
    "workers_per_trial": "workers_per_trial",
    "gpus_per_trial": "gpus_per_trial",
    "max_concurrent": "slots",
}


def changes_sweep(command: Callable[..., None]) -> Callable[..., None]:
    """Passes a command `overrides`: those of --set, and of the options that are short for it."""

    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change the sweep: num_trials=4, set.epochs=3. `mergenet sweep keys` lists the keys.",
    )
    @click.option(
        "--executor", type=click.Choice(["slots", "per_trial"]), help="Keep processes, or new ones per trial."
    )
    @click.option("--workers-per-trial", type=Workers(), help="Processes that train one trial together.")
    @click.option("--gpus-per-trial", type=float, help="GPUs per trial; a fraction lets trials share one.")
    @click.option("--max-concurrent", type=int, help="Trials that train at the same time (slots).")
    @functools.wraps(command)
    def changed(*args: Any, overrides: tuple[str, ...], **options: Any) -> None:
        given = {key: options.pop(option) for option, key in EXECUTOR_OPTIONS.items()}
        short = [f"{key}={value}" for key, value in given.items() if value is not None]
        command(*args, overrides=(*overrides, *short), **options)

    return changed


@sweep.command("run", cls=SweepCommand)
@click.argument("sweep_file", metavar="SWEEP")
@click.option("--dir", "folder", type=PATH, help="Sweep folder [default: sweep-results/NAME].")
@click.option("--overwrite", is_flag=True, help="Delete the sweep that the sweep folder holds, then run.")
@click.option("--address", metavar="auto|HOST:PORT", help="Join this running Ray; all its nodes must see the folder.")
@click.option("--copy-to", metavar="URL", help="Copy the sweep folder to s3://BUCKET/FOLDER as it grows.")
@changes_sweep
def run_command(
    sweep_file: str,
    folder: Path | None,
    overrides: tuple[str, ...],
    overwrite: bool,
    address: str | None,
    copy_to: str | None,
) -> None:
    """Run SWEEP: the name of a shipped sweep, such as quickstart, or a YAML file.

    `mergenet sweep keys` lists what a sweep file can say.

    Trains trials on this machine, confirms the best with fresh seeds, and writes best.yaml for `mergenet train`.
    For a finished sweep only the summary is shown again.

    Ctrl-C once lets the running epochs finish, twice stops at once; `mergenet sweep resume` goes on from there.

    Exit codes: 0 done; 1 the sweep failed or the disk is full; 2 a bad value, and nothing was created; 130 interrupted.
    """
    from sweeps.config.loading import load_sweep

    console = console_of()
    with failures(lambda: folder):
        config = load_sweep(sweep_file, overrides)
        folder = folder or Path("sweep-results") / config.name
        if overwrite or not show_finished(config, folder, console):
            if address is None:
                tell_start(folder, overwrite, copy_to, console)
            from sweeps.driver.start import begin

            begin(config, folder, console, overwrite, address, copy_to)


@sweep.command("plan", cls=SweepCommand)
@click.argument("sweep_file", metavar="SWEEP")
@click.option("--dir", "folder", type=PATH, help="Planned sweep folder, for its free disk.")
@click.option("--pair-sd", type=FiniteRange(min=0, min_open=True), help="Standard deviation of a paired gain, points.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@changes_sweep
def plan_command(
    sweep_file: str, folder: Path | None, overrides: tuple[str, ...], pair_sd: float | None, as_json: bool
) -> None:
    """Show what SWEEP will cost and can show, before anything runs: time, disk, memory, statistics.

    Times a few steps of the base configuration; creates nothing.
    """
    from sweeps.config.loading import load_sweep

    with failures(lambda: None):
        config = load_sweep(sweep_file, overrides)
        from sweeps.planning.cost import facts
        from sweeps.report.plan_text import plan_lines

        found = facts(config, folder or Path("sweep-results") / config.name, pair_sd)
    click.echo(json_text(found, indent=2) if as_json else "\n".join(plan_lines(found)))


@sweep.command("resume")
@click.argument("place", metavar="DIR|URL")
@click.option("--address", metavar="auto|HOST:PORT", help="Join this running Ray; all its nodes must see the folder.")
@click.option("--dir", "to", type=PATH, help="URL: folder to fetch it into [default: as it was].")
@click.option("--retry-failed", "retry", is_flag=True, help="Retry what has failed, from its last checkpoint.")
def resume_command(place: str, address: str | None, to: Path | None, retry: bool) -> None:
    """Resume the sweep in DIR that was stopped, failed or killed.

    Trials that have ended are read from their records, the others go on from their last checkpoint. The result is that
    of a sweep that never stopped if no draw or stop depends on timing: scheduler none, and one slot or sampler random,
    grid or qmc.
    DIR may have been moved. URL: a copy (`run --copy-to`), which is fetched first.
    """
    console = console_of()
    if to is not None and "://" not in place:
        raise click.UsageError(f"--dir says where a copy is fetched to; {place} is a folder already")
    folder = Path(place)
    with failures(lambda: folder):
        from sweeps.cli.ablate_command import resume_ablation
        from sweeps.driver.start import go_on
        from sweeps.trials.sweep_dir import holds_ablation

        if "://" in place:
            from sweeps.tracking.remote_copy import fetch

            folder = fetch(place, to)
        if holds_ablation(folder):
            resume_ablation(folder, console, address, retry)
        else:
            go_on(folder, console, address, retry)


@sweep.command("launch")
@click.argument("sweep_file", metavar="SWEEP")
@click.option("--to", "kind", required=True, type=click.Choice(["job", "slurm", "ray-up", "kuberay"]), help="Cluster.")
@click.option("--print", "printed", is_flag=True, help="Print the file; nothing is ever submitted from here.")
@click.option("--dir", "folder", required=True, help="Sweep folder, absolute, on storage that all nodes share.")
@click.option("--nodes", type=click.IntRange(min=1), help="slurm, kuberay: nodes [default: 2].")
@click.option("--cpus", type=click.IntRange(min=1), help="All but job: CPUs of a node [default: 4].")
@click.option("--gpus", type=click.IntRange(min=0), help="All but job: GPUs of a node [default: 0].")
@click.option("--memory-gib", type=click.IntRange(min=1), help="slurm, kuberay: memory of a node [default: 16].")
@click.option("--hours", type=FiniteRange(min=0, min_open=True), help="slurm: time limit [default: 12].")
@click.option("--partition", help="slurm: partition.")
@click.option("--hosts", help="ray-up: addresses, the head first, separated by commas.")
@click.option("--user", help="ray-up: SSH user [default: ubuntu].")
@click.option("--ssh-key", help="ray-up: private key, which Ray copies to the head [default: SSH's own, on each node].")
@click.option("--image", help="kuberay: image that holds mergenet.")
@click.option("--claim", help="kuberay: PersistentVolumeClaim of the shared storage.")
def launch_command(sweep_file: str, kind: str, printed: bool, folder: str, **options: Any) -> None:
    """Print the file that runs SWEEP on a cluster: for `ray job submit`, sbatch, `ray up` or kubectl.

    Tokens are on and ports private; secrets come from the environment of the cluster only. See docs/cluster.md.
    """
    from sweeps.cli.launch import Launch, check_options, place, render
    from sweeps.config.loading import load_sweep
    from sweeps.execution.resources import head_gib
    from sweeps.planning.checks import check_for_cluster

    given = {name: value for name, value in options.items() if value is not None}
    with failures(lambda: None):
        check_options(kind, given)
        if not printed:
            raise UserError(f"--print must be given, nothing is submitted from here; for example --to {kind} --print")
        config = load_sweep(sweep_file)
        if "hosts" in given:
            given["hosts"] = tuple(given["hosts"].split(","))
        path, start = place(kind, sweep_file)
        text = render(kind, Launch(config.name, path, folder, start, head_gib(config), **given))
        check_for_cluster(config, shared=kind != "kuberay")  # fail here, not in a cluster's queue
        click.echo(text)


@sweep.command("status")
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON, one line per look.")
@click.option("--watch", type=FiniteRange(min=1), metavar="SECONDS", help="Look again until no driver is running.")
@click.option("--html", is_flag=True, help="Also write report.html and report.md into DIR, as far as the sweep is.")
def status_command(folder: Path, as_json: bool, watch: float | None, html: bool) -> None:
    """Show the status of the sweep in DIR, from any shell: trial states, best so far, time left, what to do next.

    Only reads the folder, but for --html; a running sweep is not disturbed.
    """
    from sweeps.report import status
    from sweeps.report.page import write_page
    from sweeps.trials.sweep_dir import holds_ablation

    read, lines = status.read_status, status.status_lines
    with failures(lambda: None):
        if holds_ablation(folder):
            from sweeps.ablation.results import status as ablation

            read, lines = ablation.read_status, ablation.status_lines
        for number, found in enumerate(status.watch(folder, watch, read) if watch else [read(folder)]):
            if as_json:
                click.echo(json_text(found))
            else:
                click.echo(("\n" if number else "") + "\n".join(lines(found)))
            if html:
                click.echo(write_page(folder)[0], err=as_json)


@sweep.command("prune")
@click.argument("folder", metavar="DIR", type=PATH)
@click.option(
    "--keep",
    type=click.Choice(["none", "best", "last"]),
    default="best",
    show_default=True,
    help="Beside the records: nothing; the weights of the best epoch; these, and the last checkpoint.",
)
@click.option(
    "--recordings",
    is_flag=True,
    help="Delete the recorded source, too; the sweep must have finished, and nothing beside it may need the recording.",
)
def prune_command(folder: Path, keep: str, recordings: bool) -> None:
    """Delete what the ended runs of the sweep in DIR no longer need: checkpoints, of which two lie in each run.

    Records stay, so that tables, resume and reports are what they were. Sweeps tidy themselves (keep_checkpoints); this
    is for those that ran before, or that kept more. Runs that failed or have not ended are left alone. A source whose
    recording is gone trains again, to the same bits, if the sweep is resumed or retried.
    """
    from sweeps.driver.kept import prune_recordings, prune_sweep
    from sweeps.report.plan_text import size

    with failures(lambda: None):
        gone, room = prune_recordings(folder) if recordings else (0, 0)
        runs, freed = prune_sweep(folder, keep)
    more = f", {size(room)} in {gone} recordings" if recordings else ""
    click.echo(f"freed {size(freed)} in {runs} runs{more}")


@sweep.command("sync")
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("--project", help="Project on W&B [default: that of the sweep].")
@click.option(
    "--mode",
    type=click.Choice(["online", "offline"]),
    default="online",
    show_default=True,
    help="offline: into files for `wandb sync`.",
)
def sync_command(folder: Path, project: str | None, mode: str) -> None:
    """Add to Weights & Biases what it lacks of the sweep or ablation in DIR, from its own records.

    For sweeps that ran offline, while W&B was down, or without it. The key comes from WANDB_API_KEY or ~/.netrc.
    """
    console = console_of()
    try:
        from sweeps.trials.sweep_dir import holds_ablation

        if holds_ablation(folder):
            from sweeps.ablation.mirrored import sync_ablation as sync
        else:
            from sweeps.tracking.wandb_sync import sync_sweep as sync
        sync(folder, mode, project, lambda text: console.print(text, markup=False, soft_wrap=True))
    except UserError as error:
        raise Failure(str(error), 2) from error
    except KeyboardInterrupt:
        raise Failure("interrupted; the same command goes on from there", 130) from None
    except RuntimeError as error:
        raise Failure(str(error), 1) from error


def tell_start(folder: Path, overwrite: bool, copy_to: str | None, console: "Console") -> None:
    """Says at once what takes the first seconds. Raises ConfigError instead if folder or URL cannot be used."""
    from sweeps.trials.sweep_dir import check_deletable, check_folder

    if copy_to is not None:
        from sweeps.tracking.remote_copy import check_url

        check_url(copy_to)
    (check_deletable if overwrite else check_folder)(folder)
    console.print("checking the sweep; Ray starts meanwhile ...", highlight=False)


def show_finished(config: "SweepConfig", folder: Path, console: "Console") -> bool:
    """If the folder holds this very sweep, finished: print its summary again.

    Raises ConfigError, with what differs, if it holds this sweep with other settings.
    """
    from sweeps.driver.start import finished
    from sweeps.trials.sweep_dir import shown_path

    summary = finished(config, folder)
    if summary is None:
        return False
    from sweeps.report.summary import print_summary

    console.print(
        f"sweep {config.name} is finished in {shown_path(folder)}; this is its summary",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    print_summary(folder, summary, console)
    return True
