"""Who sees what: a terminal has a live status, a notebook and a pipe have lines."""

import io
import sys

import pytest

from sweeps.report.console import PIPED_WIDTH, lasting_console
from sweeps.report.live import View, say
from tests.sweeps.base import sweep_config


class Output(io.StringIO):
    def isatty(self) -> bool:
        """As a terminal does, and as ipykernel's output does, too."""
        return True


@pytest.mark.parametrize(
    ("notebook", "live", "redrawn"), [(False, True, True), (False, False, False), (True, True, False)]
)
def test_only_a_terminal_has_a_status_that_is_redrawn(
    notebook: bool, live: bool, redrawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: notebook)
    console = lasting_console(live)
    with View(console, sweep_config({"epochs": {"choice": [1, 2]}}), num_jobs=2) as view:
        assert (view.live is not None) == redrawn
        say(console, "a line [of brackets]")
    assert "a line [of brackets]\n" in output.getvalue()
    assert ("\x1b" in output.getvalue()) == redrawn
    assert console.width == PIPED_WIDTH or not notebook


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    say(lasting_console(quiet=True), "a line")
    assert capsys.readouterr().out == ""
