"""`mergenet analyze`: the results of a sweep as a table, its best configuration, and what mattered in it.

pandas and scipy are imported when a command runs, so that `mergenet --help` stays fast.
"""

import shlex
import sys
from pathlib import Path

import click

FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))


@click.group(short_help="Tables, the best, and what mattered in sweeps.")
def analyze() -> None:
    """Read the records of runs and sweeps: tables, gains, the best configuration, what mattered."""


@analyze.command()
@FOLDER
@click.option("--sort", metavar="COL", help="Sort all rows by this column, best first. Default: role, then validation.")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write all columns here.")
@click.option("--all", "everything", is_flag=True, help="Show all columns, also parameters that do not vary.")
@click.option("--per-seed", is_flag=True, help="seeds_per_trial: a line for each seed of a trial, not for their mean.")
def table(folder: Path, sort: str | None, csv_file: Path | None, everything: bool, per_seed: bool) -> None:
    """One line a run of DIR: a sweep folder, a folder of run folders, or one run folder.

    A trial of several seeds is one line, their mean; --per-seed shows each, to be paired by seed.
    """
    from analysis import tables
    from analysis.load import load_trials

    trials = tables.ordered(load_trials(folder, per_seed), sort)
    tables.show(tables.selected(trials, everything), rich_output=sys.stdout.isatty())
    click.echo()
    for line in tables.footer(trials):
        click.echo(line)
    if csv_file is not None:
        tables.write_csv(trials, csv_file)
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
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the table here.")
@click.option("--figures", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Write figures here.")
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
    from analysis import tables
    from analysis.importance.findings import what_mattered
    from analysis.importance.text import report

    found = what_mattered(folder, metric, epoch)
    for line in report(found):
        click.echo(line)
    if csv_file is not None:
        tables.write_csv(found.importances, csv_file)
        click.echo(f"wrote {csv_file} ({len(found.importances)} rows)")
    if figures is not None:
        from analysis.importance.figures import DARK, LIGHT, write_figures

        for line in write_figures(found, figures, DARK if theme == "dark" else LIGHT):
            click.echo(line)


@analyze.command(short_help="A page with the answer, the evidence, every run.")
@FOLDER
@click.option("--out", type=click.Path(path_type=Path), help="Write the page here.  [default: DIR/report.html]")
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
