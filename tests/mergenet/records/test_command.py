"""The command that is running, as it may be shown elsewhere."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mergenet.cli.group import CommandGroup
from mergenet.records.command import HIDDEN, MOST, running_command, shareable


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["mergenet", "sweep", "run", "my sweep.yaml", "--set", "num_trials=4"], "'my sweep.yaml' --set num_trials=4"),
        (["--set", "wandb.api_key=12"], f"wandb.api_key={HIDDEN}"),
        (["--set=wandb.api_key=12"], HIDDEN),
        (["--copy-to", "s3://user:word@host/place"], f"s3://{HIDDEN}@host/place"),
        (["--set", "wandb.project=abcdefgh-1"], f"wandb.project={HIDDEN}"),
        (["a\x1b[31mb"], "'a\\x1b[31mb'"),
        (["--set", "search.transfer.pairs={layers: 'layer3.*>f'}"], "layer3.*>f"),
    ],
)
def test_what_may_be_secret_is_hidden(words: list[str], shown: str) -> None:
    text = shareable(words, {"SOME_TOKEN": "abcdefgh-1", "SHORT_TOKEN": "e", "HARMLESS": "mergenet"})
    assert shown in text
    assert "12" not in text and "word@" not in text and "abcdefgh" not in text


def test_the_home_folder_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "ada"
    monkeypatch.setenv("HOME", str(home))
    words = [f"{home}/a b/c", f"--set=set.target.data.root={home}/data", f"{home}-2/d", f"/mnt{home}/e"]
    assert shareable(words, {}) == f"~/'a b/c' --set=set.target.data.root=~/data {home}-2/d /mnt{home}/e"
    assert len(shareable(["x" * 5000], {})) == MOST + 3


def test_a_command_knows_how_it_was_typed() -> None:
    found: list[str | None] = []

    @click.group(cls=CommandGroup)
    def cli() -> None: ...

    @cli.command()
    @click.argument("name")
    @click.option("--set", "changes", multiple=True)
    def run(**_: object) -> None:
        found.append(running_command())

    assert CliRunner().invoke(cli, ["run", "--set", "a=1", "x y", "--set", "b=2"]).exit_code == 0
    assert found == ["mergenet run --set a=1 'x y' --set b=2"]
    assert running_command() is None, "in a script there is none"
