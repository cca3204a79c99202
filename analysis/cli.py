"""`mergenet analyze`: the results of sweeps as tables, compared, and their best configurations.

pandas and scipy are imported when a command runs, so that `mergenet --help` stays fast.
"""

import shlex
import sys
from pathlib import Path

import click

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


@click.group(short_help="Tables and the best of runs and sweeps.")
def analyze() -> None:
    """Read the records of runs and sweeps: tables, gains, the best configuration."""


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
    from analysis import tables
    from analysis.load import load_trials
    from analysis.wandb_runs.table import PREFIX, load_wandb

    place = str(folder)
    found = load_wandb(place, per_seed) if place.startswith(PREFIX) else load_trials(folder, per_seed)
    trials = tables.ordered(found, sort)
    tables.show(tables.selected(trials, everything), rich_output=sys.stdout.isatty())
    click.echo()
    for line in tables.footer(trials):
        click.echo(line)
    if csv_file is not None:
        tables.write_csv(trials, csv_file)
        click.echo(f"wrote {csv_file} ({len(trials)} rows)")


@analyze.command()
@FOLDER
@click.option("--out", type=click.Path(path_type=Path), help="Write the configuration here. Default: standard output.")
@click.option(
    "--metric",
    "--sort",
    "metric",
    help="Metric to rank by, at each run's best epoch: a column target_val_... of the table. "
    "Default: that by which the runs select their best epochs.",
)
@click.option("--trial", "name", metavar="NAME", help="This trial instead of the best, such as one of a Pareto front.")
def best(folder: Path, out: Path | None, metric: str | None, name: str | None) -> None:
    """The best finished trial of DIR, and its configuration as `mergenet train` accepts it."""
    from analysis import tables
    from analysis.best import choose_best, choosing_metric, config_text, named, write_config
    from analysis.load import load_trials

    trials = load_trials(folder)
    metric = choosing_metric(trials, metric)
    chosen = choose_best(trials, metric) if name is None else named(trials, name)
    story = "\n".join(tables.story(trials, chosen, metric, asked=name is not None))
    if out is None:
        # the explanation as comments: the output is the file, `analyze best DIR > best.yaml` works
        click.echo(config_text(chosen, story), nl=False)
        return
    write_config(chosen, out, story)
    click.echo(f"{story}\nwrote {out}; train it with: mergenet train {shlex.quote(str(out))}")


@analyze.command()
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--by", metavar="SETTING", multiple=True, help="Compare this setting, such as method. Repeatable.")
@click.option("--baseline", metavar="SIDE", help="The side that the others are compared with. Default: the first.")
@click.option("--metric", metavar="COL", help="Column to compare. Default: on the test split what selects the epochs.")
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
    from analysis import table_formats
    from analysis.best import write_file
    from analysis.comparison.compare import compare as compared

    found = compared(folders, by, baseline, metric, roles, trials, common)
    table_formats.print_table(found.table, found.metric, rich_output=sys.stdout.isatty())
    click.echo()
    for line in found.notes:
        click.echo(line)
    texts = [
        (csv_file, table_formats.to_csv(found.table)),
        (markdown_file, table_formats.to_markdown(found.table, found.metric)),
        (latex_file, table_formats.to_latex(found.table, found.metric)),
    ]
    for file, text in texts:
        if file is not None:
            write_file(file, text)
            click.echo(f"wrote {file}")


@analyze.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--run", type=click.Path(path_type=Path), help="Run or sweep of FILE.  [default: the folder of FILE]")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the new run here.  [default: a temporary folder]")
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
