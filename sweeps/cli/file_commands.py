"""The commands of `mergenet sweep` that are about sweep files, and run nothing."""

import json
import shlex
from pathlib import Path

import click

from mergenet.cli.paths import PATH


@click.command("keys")
@click.option(
    "--json-schema", "as_schema", is_flag=True, help="Print a JSON Schema, by which editors check sweep files."
)
@click.option("--markdown", "as_page", is_flag=True, help="Print it as a page.")
def keys_command(as_schema: bool, as_page: bool) -> None:
    """List every key of a sweep file, and every form of an entry of its `search`: meaning, values, default.

    For an editor: mergenet sweep keys --json-schema > sweep.schema.json, and as the first line of the sweep file
    # yaml-language-server: $schema=sweep.schema.json
    """
    if as_schema and as_page:
        raise click.UsageError("--json-schema and --markdown are two answers; give one of them")
    if as_schema:
        from sweeps.config.editor_schema import sweep_schema

        click.echo(json.dumps(sweep_schema(), indent=1))
        return
    from sweeps.config.reference import help_sections, markdown

    if as_page:
        click.echo(markdown(), nl=False)
        return
    formatter = click.get_current_context().make_formatter()
    for title, rows in help_sections():
        with formatter.section(title):
            formatter.write_dl(rows, col_max=26)
    click.echo(formatter.getvalue().lstrip("\n"), nl=False)


@click.command("init")
@click.argument("out", metavar="FILE", type=PATH)
@click.option("--base", metavar="CONFIG", required=True, help="Training configuration: a preset or a YAML file.")
def init_command(out: Path, base: str) -> None:
    """Write a sweep file to begin with, FILE, for CONFIG: what `mergenet train` trains.

    It names layers of CONFIG's own networks and the ranks that they allow, searches what matters most, and has all
    other keys as comments. It is checked before it is written, and no file is overwritten.
    """
    from sweeps.cli.starter import write_starter

    sweep = write_starter(out, base)
    click.echo(f"wrote {out}, which searches {', '.join(sweep.search)}")
    click.echo(f"next: mergenet sweep plan {shlex.quote(str(out))}")
