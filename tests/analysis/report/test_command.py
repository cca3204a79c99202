import webbrowser
from pathlib import Path

import pytest
from click.testing import CliRunner

from mergenet.cli.main import cli
from tests.analysis.importance.sweeps import drawn
from tests.analysis.report.sweeps import reported


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["analyze", "report", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output


def test_it_writes_into_the_folder_or_where_it_is_told(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", states=["complete"] * 3, points=drawn(3))
    assert run(folder) == f"wrote {folder}/report.html and report.md\n"
    assert {"report.html", "report.md"} <= {path.name for path in folder.iterdir()}
    run(folder, "--out", tmp_path / "new" / "page.html")
    assert (tmp_path / "new/page.md").is_file()


def test_open_starts_a_browser_or_says_that_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = reported(tmp_path / "s", states=["complete"], points=drawn(1))
    opened: list[str] = []
    browser = type("Browser", (webbrowser.BaseBrowser,), {"open": lambda _, url, *__: not opened.append(url)})
    monkeypatch.setattr(webbrowser, "_tryorder", ["kept"])
    monkeypatch.setattr(webbrowser, "_browsers", {"kept": [None, browser("kept")]})
    assert "no browser" not in run(folder, "--open")
    assert opened == [(folder / "report.html").as_uri()]
    monkeypatch.setattr(webbrowser, "_tryorder", [])
    assert "no browser could be started: open the file by hand" in run(folder, "--open")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "nowhere must be a sweep folder, a run folder or a folder of runs; there is no such folder"),
        ((".", "--out", "x.pdf"), "--out (out=) must be a file named .html, got 'x.pdf'"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    lines = run(*arguments, code=2).splitlines()
    assert len(lines) == 1 and said in lines[0]
