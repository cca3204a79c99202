"""The commands of `mergenet sweep` that are about sweep files, and run nothing."""

import json

import click


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
