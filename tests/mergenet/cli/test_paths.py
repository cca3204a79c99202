"""Paths that a shell leaves as they are typed."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mergenet.cli.paths import PATH, PathType


@click.command()
@click.option("--dir", "folder", type=PATH)
@click.option("--out", type=PathType(dir_okay=False))
def command(folder: Path | None, out: Path | None) -> None:
    click.echo(f"{folder} {out}")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("~/sweeps/one", "HOME/sweeps/one"),
        ("~", "HOME"),
        ("a~", "a~"),
        ("~nobody/x", "~nobody/x"),
    ],
)
def test_a_leading_tilde_is_the_home_folder_behind_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, found: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(command, [f"--dir={given}"])
    assert done.output == f"{found.replace('HOME', str(tmp_path))} None\n"


def test_its_rules_are_clicks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(command, ["--out=~"])
    assert done.exit_code == 2
    assert f"File '{tmp_path}' is a directory" in done.output
