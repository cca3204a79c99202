"""docs/analysis.md: the Python of Compare and Verify, run as a reader would, on runs as small as they can be."""

from pathlib import Path

import pytest

from mergenet.training.run import train_run
from tests.pages import BLOCK, DOCS
from tests.tiny import tiny_config

PAGE = (DOCS / "analysis.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The Python under a heading of the second level."""
    text = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return "\n".join(code for language, _, code in BLOCK.findall(text) if language == "python")


@pytest.mark.usefixtures("tiny")
def test_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in ("none", "kd", "mergenet"):
        changes = {"source.model.name": "tiny_cnn", "transfer.pairs": [{"source": "9", "target": "9"}]}
        for seed in (1, 2):
            config = tiny_config({**changes, "epochs": 1, "method": method, "seed": seed})
            list(train_run(config, tmp_path / f"runs/{method}/seed-{seed}"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(section("Compare"), names)
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[1:4]] == ["none", "kd", "mergenet"]
    assert "compared: method (none, kd, mergenet); all other settings are alike, and the data are the same" in shown
    assert str(names["text"]).startswith(r"\begin{tabular}")
    exec(section("Verify"), names)
    assert capsys.readouterr().out == "identical True\n"
