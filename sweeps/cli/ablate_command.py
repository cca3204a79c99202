"""`mergenet sweep ablate`."""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mergenet.cli.paths import PATH
from mergenet.cli.plain_json import json_text
from mergenet.errors import UserError
from sweeps.cli.failures import failures
from sweeps.cli.finite import FiniteRange

if TYPE_CHECKING:
    from rich.console import Console


def tracking_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where else it is to be seen: a command gets `wandb`, what is given of that section, and `copy_to`."""

    @click.option(
        "--wandb",
        "mode",
        type=click.Choice(["disabled", "offline", "online"]),
        help="Mirror on Weights & Biases [default: as the sweep's; else disabled].",
    )
    @click.option("--wandb-project", "project", metavar="NAME", help="Project on W&B [default: that of the sweep].")
    @click.option("--copy-to", metavar="URL", help="Copy the folder to s3://BUCKET/FOLDER as it grows.")
    @functools.wraps(command)
    def tracked(*args: Any, mode: str | None, project: str | None, **options: Any) -> None:
        given = {"mode": mode, "project": project}
        command(*args, wandb={key: value for key, value in given.items() if value is not None}, **options)

    return tracked


def ablation_options(command: Callable[..., None]) -> Callable[..., None]:
    """What is varied, and with how many seeds."""
    for option in reversed(
        (
            click.option("--factors", metavar="PATH,PATH", help="Vary each by values that are found: see --help."),
            click.option(
                "--values",
                multiple=True,
                metavar="PATH=A,B",
                help="Vary this path by these values, as transfer.t_cycle=1,4,16.",
            ),
            click.option("--components/--no-components", default=None, help="Also take out or replace each component."),
            click.option(
                "--interaction",
                "interactions",
                multiple=True,
                metavar="PATH,PATH",
                help="Also change these two factors together.",
            ),
            click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Change the centre first."),
            click.option("--seeds", type=int, help="Seeds of each variant [default: 8]; more on the same folder adds."),
            click.option("--race", is_flag=True, help="Variants that are clearly worse get no more seeds."),
            click.option("--budget-hours", type=float, metavar="H", help="No further seed begins after H hours."),
            click.option("--reuse", multiple=True, metavar="DIR", help="Also reuse the runs of this sweep folder."),
            click.option("--max-concurrent", "slots", type=int, help="Runs that train at the same time [default: 2]."),
        )
    ):
        command = option(command)
    return functools.wraps(command)(command)


@click.command("ablate")
@click.argument("what", metavar="SWEEP_DIR|CONFIG")
@click.option("--dir", "folder", type=PATH, help="Folder [default: sweep-results/NAME-ablation].")
@ablation_options
@click.option("--dry-run", is_flag=True, help="Print what it costs and can show; nothing is created.")
@click.option("--pair-sd", type=FiniteRange(min=0, min_open=True), help="Standard deviation of a gain, points.")
@click.option("--metric", help="Column of the table [default: the selecting metric on the test split].")
@click.option("--json", "as_json", is_flag=True, help="Print the plan (--dry-run) or the result as JSON.")
@click.option("--overwrite", is_flag=True, help="Delete the ablation or sweep that the folder holds, then run.")
@click.option("--address", metavar="auto|HOST:PORT", help="Join this running Ray; all its nodes must see the folder.")
@tracking_options
def ablate_command(what: str, folder: Path | None, **options: Any) -> None:
    """Vary one factor at a time around the best of a sweep or a configuration, and print the table a paper prints.

    Each variant trains with the same seeds as the centre and is compared with it by pairs. Without --factors, --values
    and --components it is every component of the method and, of a sweep, what it searched. A factor without values gets
    those that the sweep could draw (of a range its ends and its middle), else half and twice the centre's number or all
    other names.

    Finished runs of the sweep that are the same (configuration, seed, data, code) are reused. The same command goes on
    after a kill, and with more --seeds adds to what is there. SWEEP_DIR may be the folder of an ablation itself, to go
    on with it or to print its table again.
    """
    from sweeps.ablation.schema import ADJUSTABLE
    from sweeps.trials.sweep_dir import holds_ablation

    given = {key: value for key in ADJUSTABLE if (value := options.pop(key)) not in (None, (), False, {})}
    place = Path(what) if holds_ablation(Path(what)) else folder
    with failures(lambda: place):
        if holds_ablation(Path(what)):
            _continue(Path(what), given, options)
            return
        ablation = _load(what, options, given)
        if options["dry_run"]:
            _print_plan(ablation.plan(folder, options["pair_sd"], _note(options["as_json"])), options["as_json"])
            return
        place = folder = folder or Path("sweep-results") / ablation.config.name
        keys = ("overwrite", "address", "pair_sd", "copy_to")
        result = ablation.run(folder, quiet=options["as_json"], **{key: options[key] for key in keys})
        _print_result(result.folder, options)


def _load(what: str, options: dict[str, Any], given: dict[str, Any]) -> Any:
    from sweeps.ablation.api import Ablation
    from sweeps.ablation.centre import parse_values

    values = dict(map(parse_values, options["values"]))
    pairs = list(map(_pair, options["interactions"]))
    return Ablation.load(
        what,
        factors_of=_paths(options["factors"] or ""),
        values=values,
        components=options["components"],
        interactions=pairs,
        changes=options["changes"],
        **given,
    )


def _paths(text: str) -> Sequence[str]:
    return [path.strip() for path in text.split(",") if path.strip()]


def _pair(text: str) -> tuple[str, str]:
    match _paths(text):
        case [one, other]:
            return one, other
    raise UserError(f"--interaction must be two paths, PATH,PATH, got {text[:60]!r}")


def _continue(folder: Path, given: dict[str, Any], options: dict[str, Any]) -> None:
    """Go on with the ablation in a folder; only its table is printed if nothing is left to train."""
    varied = ("factors", "values", "components", "interactions", "changes", "overwrite", "dry_run")
    if strange := [name for name in varied if options[name]]:
        raise UserError(
            f"--{strange[0].replace('_', '-')} must not be given for an ablation that has begun, got it for "
            f"{str(folder)!r}; only --seeds, --race, --budget-hours, --reuse, --max-concurrent and --wandb may change"
        )
    from sweeps.ablation.api import go_on
    from sweeps.ablation.folder import check_copy
    from sweeps.report.console import lasting_console

    check_copy(folder, options["copy_to"])
    go_on(folder, lasting_console(quiet=options["as_json"]), given, options["address"])
    _print_result(folder, options)


def resume_ablation(folder: Path, console: "Console", address: str | None, retry: bool) -> None:
    """What `mergenet sweep resume` does with the folder of an ablation."""
    from sweeps.ablation.api import go_on

    go_on(folder, console, None, address, retry)
    _print_result(folder, {"metric": None, "as_json": False})


def _note(as_json: bool) -> Callable[[str], None] | None:
    """Prints what is going on beside the output proper, which is for a reader or for a program."""
    return None if as_json else functools.partial(click.echo, err=True)


def _print_plan(found: dict[str, Any], as_json: bool) -> None:
    from sweeps.ablation.results.text import plan_lines

    click.echo(json_text(found, indent=2) if as_json else "\n".join(plan_lines(found)))


def _print_result(folder: Path, options: dict[str, Any]) -> None:
    from sweeps.ablation.results.result import AblationResult
    from sweeps.ablation.results.text import NAME

    result = AblationResult.load(folder, options["metric"])
    result.write()
    if options["as_json"]:
        click.echo((result.folder / f"{NAME}.json").read_text(encoding="utf-8"), nl=False)
        return
    click.echo()
    result.show(rich=sys.stdout.isatty())


@click.command("confirm")
@click.argument("sweep", metavar="SWEEP_DIR", type=PATH)
@click.option("--top", type=click.IntRange(1, 100), help="So many of the best trials.  [default: 3]")
@click.option(
    "--trial",
    "trials",
    metavar="NAME",
    multiple=True,
    help="This trial, in the place of the best; one that was stopped early trains in full. Repeatable.",
)
@click.option(
    "--seeds",
    type=int,
    default=8,
    show_default=True,
    help="Fresh seeds that choose, and as many that tell the gain; of one trial only these.",
)
@click.option("--dir", "folder", type=PATH, help="Folder [default: sweep-results/NAME-best].")
@click.option("--max-concurrent", "slots", type=int, default=2, show_default=True, help="Runs at the same time.")
@click.option("--dry-run", is_flag=True, help="Print what it costs and can show; nothing is created.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan (--dry-run) or the result as JSON.")
@click.option("--overwrite", is_flag=True, help="Delete what the folder holds of an earlier one, then run.")
@click.option("--address", metavar="auto|HOST:PORT", help="Join this running Ray; all its nodes must see the folder.")
@tracking_options
def confirm_command(
    sweep: Path,
    top: int | None,
    trials: tuple[str, ...],
    seeds: int,
    folder: Path | None,
    slots: int,
    overwrite: bool,
    address: str | None,
    wandb: dict[str, str],
    copy_to: str | None,
    **how: bool,
) -> None:
    """Train the best trials of a sweep on fresh seeds beside no transfer before one of them is named the best.

    The best of many trials was selected for its luck as well. Phase after phase the worst on fresh seeds is rejected
    (successive rejects); the one that is left is named, and its gain comes from further seeds that had no part in that.
    Shows how much each value of the search was luck, and writes best.yaml. Of a single trial (--top 1, or one --trial)
    nothing is chosen: all seeds tell its gain, and more --seeds on the same folder add to them.
    """
    place = folder
    with failures(lambda: place):
        from sweeps.ablation.api import Ablation

        if trials and top is not None:
            raise UserError(
                f"--top must not be given beside --trial, got {top}; name the trials, or take the best of all"
            )
        confirmation = Ablation.best_of(sweep, top or 3, seeds, trials, slots=slots, wandb=wandb)
        if how["dry_run"]:
            _print_plan(confirmation.plan(folder, say=_note(how["as_json"])), how["as_json"])
            return
        place = folder or Path("sweep-results") / confirmation.config.name
        result = confirmation.run(place, overwrite=overwrite, address=address, copy_to=copy_to, quiet=how["as_json"])
        _print_result(result.folder, {"metric": None, "as_json": how["as_json"]})
