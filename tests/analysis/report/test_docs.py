"""docs/analysis.md, the section on the report: its Python, as a reader would run it."""

from pathlib import Path

import pytest

from tests.analysis.importance.sweeps import drawn
from tests.analysis.report.sweeps import reported
from tests.pages import BLOCK, DOCS


def test_the_python_of_the_section_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (DOCS / "analysis.md").read_text(encoding="utf-8")
    section = page.partition("\n## Report\n")[2].partition("\n## ")[0]
    (block,) = (text for language, _, text in BLOCK.findall(section) if language == "python")
    reported(tmp_path / "sweep-results/quickstart48", {"best": 0.03}, states=["complete"] * 4, points=drawn(4))
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    printed = capsys.readouterr().out
    assert "What does it gain over no transfer?\n  test top1 +3.0" in printed
    assert "confirm_controls" in printed
    assert (tmp_path / "report.html").is_file() and (tmp_path / "report.md").is_file()
