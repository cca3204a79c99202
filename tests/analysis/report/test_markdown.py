from pathlib import Path

from analysis.report.markdown import code, text
from analysis.report.page import write_report
from tests.analysis.importance.sweeps import drawn
from tests.analysis.report.sweeps import reported
from tests.records import edit_record


def test_it_holds_the_answer_and_the_differences(written: Path) -> None:
    lines = written.with_suffix(".md").read_text().splitlines()
    assert lines[0] == "## known"
    assert "**What does it gain over no transfer?** test top1 +3.00 points, 95 % interval \\[+2.75, +3.25\\]" in lines
    assert any(line.startswith("| best minus shuffled | +3.40 points") for line in lines)
    assert any(line.startswith("| `transfer.adapter.gate` | `0.02` | `0.") for line in lines)
    widths = {line.count(" | ") for line in lines if line.startswith("| `")}
    assert widths == {2}, "no cell breaks its table"


def test_links_lead_to_the_runs(small: Path, tmp_path: Path) -> None:
    _, file = write_report(small, tmp_path / "out.html")
    assert file == tmp_path / "out.md"
    (line,) = (line for line in file.read_text().splitlines() if line.startswith("- runs: "))
    for part in line.split("](<")[1:]:
        assert (tmp_path / part.partition(">")[0]).is_dir()


def test_words_make_no_markup() -> None:
    assert text("a_b *c* [d](e) <f> `g` | h") == "a\\_b \\*c\\* \\[d\\](e) \\<f\\> \\`g\\` \\| h"
    assert text("@someone #1\nx") == "&#64;someone \\#1\\\\nx"
    assert code("a`b|c\nd") == "`a'b\\|c\\nd`"


def test_the_error_of_a_trial_stays_one_line(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", states=["failed"] * 2, points=drawn(2), status="failed")
    trial = folder / "trials/trial-000/trial.json"
    edit_record(trial, {"error": "<b>@all\n# x"})
    _, file = write_report(folder)
    line = next(line for line in file.read_text().splitlines() if "2 runs have failed" in line)
    assert "\\<b\\>&#64;all\\\\n\\# x" in line
