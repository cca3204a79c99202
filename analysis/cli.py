"""`mergenet analyze`: the results of sweeps as tables, compared, their best configurations, and what mattered.

pandas and scipy are imported when a command runs, so that `mergenet --help` stays fast.
"""

import shlex
import sys
from pathlib import Path

import click

from mergenet.cli.paths import PATH, PathType

FILE = PathType(dir_okay=False)
FOLDER = click.argument("folder", metavar="DIR", type=PATH)


@click.group(short_help="Tables, the best, and what mattered in sweeps.")
def analyze() -> None:
    """Read the records of runs and sweeps: tables, gains, the best configuration, what mattered."""


@analyze.command()
@FOLDER
@click.option("--sort", metavar="COL", help="Sort all rows by this column, best first. Default: role, then validation.")
@click.option("--csv", "csv_file", type=FILE, help="Also write all columns here.")
@click.option("--all", "everything", is_flag=True, help="Show all columns, also parameters that do not vary.")
@click.option("--per-seed", is_flag=True, help="seeds_per_trial: a line for each seed of a trial, not for their mean.")
def table(folder: Path, sort: str | None, csv_file: Path | None, everything: bool, per_seed: bool) -> None:
    """One line a run of DIR: a sweep folder, a folder of run folders, or one run folder.

    Or wandb:ENTITY/PROJECT/GROUP, a sweep on W&B whose folder may be elsewhere; GROUP is its name. Or wandb:DIR, with
    files that W&B's client wrote offline.

    A trial of several seeds is one line, their mean; --per-seed shows each, to be paired by seed.
    """
    from analysis.tables import overview
    from analysis.tables.load import load_trials
    from analysis.wandb_runs.table import PREFIX, load_wandb

    place = str(folder)
    found = load_wandb(place, per_seed) if place.startswith(PREFIX) else load_trials(folder, per_seed)
    trials = overview.ordered(found, sort)
    overview.show(overview.selected(trials, everything), rich_output=sys.stdout.isatty())
    click.echo()
    for line in overview.footer(trials):
        click.echo(line)
    if csv_file is not None:
        overview.write_csv(trials, csv_file)
        click.echo(f"wrote {csv_file} ({len(trials)} rows)")


@analyze.command(short_help="What mattered in a sweep.")
@FOLDER
@click.option("--metric", help="What is to be explained: a column target_val_... of the table. Default: what selects.")
@click.option(
    "--epoch",
    type=int,
    metavar="N",
    help="Explain the best value up to epoch N, of all trials that trained as long, stopped early or not. "
    "Default: that of complete trials.",
)
@click.option("--csv", "csv_file", type=PathType(dir_okay=False), help="Also write the table here.")
@click.option("--figures", metavar="DIR", type=PathType(file_okay=False), help="Write figures here.")
@click.option(
    "--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True, help="Of the figures."
)
def importance(
    folder: Path, metric: str | None, epoch: int | None, csv_file: Path | None, figures: Path | None, theme: str
) -> None:
    """What mattered in the sweep of DIR: which parameters explain the value, and which do no more than chance.

    Also the way from the base to the best step by step, from which epoch on the ranking is settled, and what early
    stopping saved and risked.
    """
    from analysis.importance.findings import what_mattered
    from analysis.importance.text import report
    from analysis.tables import overview

    found = what_mattered(folder, metric, epoch)
    for line in report(found):
        click.echo(line)
    if csv_file is not None:
        overview.write_csv(found.importances, csv_file)
        click.echo(f"wrote {csv_file} ({len(found.importances)} rows)")
    if figures is not None:
        from analysis.importance.figures import DARK, LIGHT, write_figures

        for line in write_figures(found, figures, DARK if theme == "dark" else LIGHT):
            click.echo(line)


@analyze.command(short_help="A page with the answer, the evidence, every run.")
@FOLDER
@click.option("--out", type=PATH, help="Write the page here.  [default: DIR/report.html]")
@click.option("--open", "opened", is_flag=True, help="Open it in a browser.")
def report(folder: Path, out: Path | None, opened: bool) -> None:
    """Write the report of DIR as one HTML file that needs no network: first the answer, then the evidence.

    The best configuration, its gain with interval, what mattered, whether it is the source, what to run next; then
    figures and a table of all runs. Beside it the same answer as markdown, for a pull request.
    """
    from analysis.report.page import write_report

    page, text = write_report(folder, out)
    click.echo(f"wrote {page} and {text.name}")
    if opened:
        import webbrowser

        if not webbrowser.open(page.absolute().as_uri()):
            click.echo("no browser could be started: open the file by hand")


@analyze.command()
@FOLDER
@click.option("--out", type=PATH, help="Write the configuration here. Default: standard output.")
@click.option(
    "--metric",
    "--sort",
    "metric",
    help="Metric to rank by, at each run's best epoch: a column target_val_... of the table. "
    "Default: that by which the runs select their best epochs.",
)
@click.option("--trial", "name", metavar="NAME", help="This trial instead of the best, such as one of a Pareto front.")
@click.option(
    "--confirm",
    "top",
    type=click.IntRange(1, 100),
    metavar="K",
    help="Train the best K trials on fresh seeds first, and name the best of these: `mergenet sweep confirm DIR`.",
)
@click.pass_context
def best(
    ctx: click.Context, folder: Path, out: Path | None, metric: str | None, name: str | None, top: int | None
) -> None:
    """The best finished trial of DIR, and its configuration as `mergenet train` accepts it.

    It was selected for its luck as well: with --confirm it is the best on fresh seeds.
    """
    if top is not None:
        given = {"--out": out, "--metric": metric, "--trial": name}
        confirm(ctx, folder, top, [option for option, value in given.items() if value is not None])
        return
    from analysis.best import choose_best, choosing_metric, config_text, named, write_config
    from analysis.tables import overview
    from analysis.tables.load import load_trials

    trials = load_trials(folder)
    for line in trials.attrs["mixed"]:
        click.echo(line, err=True)
    metric = choosing_metric(trials, metric)
    chosen = choose_best(trials, metric) if name is None else named(trials, name)
    story = "\n".join(overview.story(trials, chosen, metric, asked=name is not None))
    if out is None:
        # the explanation as comments: the output is the file, `analyze best DIR > best.yaml` works
        click.echo(config_text(chosen, story), nl=False)
        return
    write_config(chosen, out, story)
    click.echo(f"{story}\nwrote {out}; train it with: mergenet train {shlex.quote(str(out))}")


@analyze.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=PATH)
@click.option("--by", metavar="SETTING", multiple=True, help="Compare this setting, such as method. Repeatable.")
@click.option("--baseline", metavar="SIDE", help="The side that the others are compared with. Default: the first.")
@click.option(
    "--metric",
    metavar="COL",
    help="Column to compare: one of a split, step_seconds, seconds or adapter_parameters. "
    "Default: on the test split what selects the epochs.",
)
@click.option("--role", "roles", metavar="ROLE", multiple=True, help="Of a sweep: runs of this role. Repeatable.")
@click.option("--trial", "trials", metavar="NAME", multiple=True, help="Runs of this trial, every seed. Repeatable.")
@click.option("--common", is_flag=True, help="Leave out the seeds that a side lacks.")
@click.option("--csv", "csv_file", type=FILE, help="Also write the table here.")
@click.option("--markdown", "markdown_file", type=FILE, help="The same as a markdown table.")
@click.option("--latex", "latex_file", type=FILE, help="The same for LaTeX, with booktabs.")
def compare(
    folders: tuple[Path, ...],
    by: tuple[str, ...],
    baseline: str | None,
    metric: str | None,
    roles: tuple[str, ...],
    trials: tuple[str, ...],
    common: bool,
    csv_file: Path | None,
    markdown_file: Path | None,
    latex_file: Path | None,
) -> None:
    """Compare runs of several folders, paired by seed and data split.

    A DIR is a sweep, a folder of runs, or one run. Each is a side of the comparison, a sweep by its best on fresh
    seeds; a sweep that is alone is compared in itself: no transfer, the best, controls. With --by the sides are the
    values of a setting, in whatever DIR. Settings that differ beside what is compared, other data and seeds that a
    side lacks are refused.
    """
    from analysis.best import write_file
    from analysis.comparison.compare import compare as compared
    from analysis.tables import formats

    found = compared(folders, by, baseline, metric, roles, trials, common)
    formats.print_table(found.table, found.metric, rich_output=sys.stdout.isatty())
    click.echo()
    for line in found.notes:
        click.echo(line)
    texts = [
        (csv_file, formats.to_csv(found.table)),
        (markdown_file, formats.to_markdown(found.table, found.metric)),
        (latex_file, formats.to_latex(found.table, found.metric)),
    ]
    for file, text in texts:
        if file is not None:
            write_file(file, text)
            click.echo(f"wrote {file}")


@analyze.command()
@click.argument("file", metavar="FILE", type=PATH)
@click.option("--run", type=PATH, help="Run or sweep of FILE.  [default: the folder of FILE]")
@click.option("--out", type=PATH, help="Keep the new run here.  [default: a temporary folder]")
@click.pass_context
def verify(ctx: click.Context, file: Path, run: Path | None, out: Path | None) -> None:
    """Train FILE again and compare all metrics with those of its run.

    FILE is a sweep's best.yaml, what `analyze best --out` wrote, or a run's config.yaml. Exit code 0: identical to the
    bit, or something that is named has changed and the metrics are within the spread of the seeds; 1: they are not;
    2: nothing could be compared.
    """
    from rich.console import Console

    from analysis.verification.original import find_original
    from analysis.verification.verify import folder_for, judge, train_again
    from mergenet.cli.progress import exhaust, show_log, show_progress

    original = find_original(file, run)
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(f"training {file} again, to be compared with {original.folder}", soft_wrap=True)
    with folder_for(out) as folder:
        results = show_progress(train_again(original, folder), original.config.epochs, console)
        with show_log(console):
            exhaust(results)
        found = judge(original, folder)
    click.echo(f"\n{found}")
    if not found.ok:
        ctx.exit(1)


def confirm(ctx: click.Context, folder: Path, top: int, others: list[str]) -> None:
    """`mergenet sweep confirm`, found by its name: this package trains nothing itself."""
    if others:
        usage = "mergenet sweep confirm --help"
        way_out = (
            "mergenet sweep confirm DIR --trial NAME, which takes trials by name" if "--trial" in others else usage
        )
        raise click.UsageError(f"--confirm must stand alone, got {others[0]} too; {way_out}")
    command: click.Command | None = ctx.find_root().command
    for word in ("sweep", "confirm"):
        command = command.get_command(ctx, word) if isinstance(command, click.Group) else None
        if command is None:
            raise click.UsageError("--confirm must find mergenet sweep confirm, and this command line has none")
    assert command is not None
    ctx.invoke(command, sweep=folder, top=top)
