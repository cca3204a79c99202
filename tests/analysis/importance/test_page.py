"""docs/analysis.md, the section on what mattered: its Python, as a reader would run it."""

from pathlib import Path

import pytest

from tests.analysis.importance.sweeps import by_gate, drawn, write_sweep
from tests.pages import BLOCK, DOCS


def test_the_python_of_the_section_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = (
        (DOCS / "analysis.md").read_text(encoding="utf-8").partition("\n## What mattered\n")[2].partition("\n## ")[0]
    )
    blocks = [text for language, _, text in BLOCK.findall(section) if language == "python"]
    assert len(blocks) == 1
    states = ["complete"] * 14 + ["pruned"] * 2
    write_sweep(tmp_path / "sweep-results/quickstart48", drawn(16), by_gate, states)
    monkeypatch.chdir(tmp_path)
    exec(blocks[0], {})
    printed = capsys.readouterr().out
    assert "transfer.adapter.gate" in printed and "most_gain" in printed
