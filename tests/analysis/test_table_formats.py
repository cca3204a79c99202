import io

import numpy as np
import pandas as pd
import pytest

from analysis.tables.formats import cells, columns, print_table, to_csv, to_latex, to_markdown

METRIC = "target_test_top1"
EXTRA = {"adapter_parameters": ("parameters", ",.0f"), "step_seconds": ("ms a step", ".1f"), "note": ("note", "")}


@pytest.fixture
def table() -> pd.DataFrame:
    """The baseline and two variants, one of which has a single seed; the names hold what formats escape."""
    nan = np.nan
    return pd.DataFrame(
        {
            "variant": ["centre", "a_b 5% | fc>head & \\x", "=1+1"],
            "n": [6, 6, 1],
            "mean": [0.7, 0.71234, 0.5],
            "low": [0.69, 0.7, nan],
            "high": [0.71, 0.72, nan],
            "gain": [nan, 0.01234, -0.2],
            "gain_low": [nan, -0.002, nan],
            "gain_high": [nan, 0.03, nan],
            "bca_low": [nan, 0.001, nan],
            "bca_high": [nan, 0.02, nan],
            "p": [nan, 0.03125, 1.0],
            "p_holm": [nan, 0.0625, 1.0],
            "smallest_p": [nan, 0.03125, 1.0],
            "adapter_parameters": [1234567, 0, nan],
            "note": ["", "50 % [sic]", "x"],
        }
    )


def test_columns_are_those_that_the_table_has_with_units(table: pd.DataFrame) -> None:
    titles = [column.title for column in columns(table, METRIC, EXTRA)]
    assert titles == [
        "variant", "n", "target_test_top1 % [95 % interval]", "gain, points [95 % interval]", "BCa", "p", "p (Holm)",
        "smallest p", "parameters", "note",
    ]  # fmt: skip
    few = table[["variant", "gain", "gain_low", "gain_high"]]
    assert [column.title for column in columns(few, METRIC, confidence=0.9)] == [
        "variant", "gain, points [90 % interval]"
    ]  # fmt: skip
    assert columns(few, METRIC, confidence=0.995)[1].title == "gain, points [99.5 % interval]"


def test_cells_are_percent_and_points_and_what_is_missing_is_a_dash(table: pd.DataFrame) -> None:
    found = cells(table, columns(table, METRIC, EXTRA))
    assert found[0] == ["centre", "6", "70.00 [69.00, 71.00]", *["-"] * 5, "1,234,567", "-"]
    assert found[1][2:9] == [
        "71.23 [70.00, 72.00]", "+1.23 [-0.20, +3.00]", "[+0.10, +2.00]", "0.0312", "0.0625", "0.0312", "0",
    ]  # fmt: skip
    assert found[2][1:5] == ["1", "50.00", "-20.00", "-"], "one seed has no interval"


def test_a_loss_is_in_its_own_unit(table: pd.DataFrame) -> None:
    shown = columns(table, "target_val_loss")
    assert [column.title for column in shown][2:4] == ["target_val_loss [95 % interval]", "gain [95 % interval]"]
    assert cells(table, shown)[1][2:4] == ["0.7123 [0.7, 0.72]", "+0.01234 [-0.002, +0.03]"]


def test_markdown_has_one_cell_a_column_whatever_the_names_hold(table: pd.DataFrame) -> None:
    lines = to_markdown(table, METRIC, EXTRA).splitlines()
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    assert lines[3].startswith(r"| a_b 5% \| fc>head & \\x | 6 | 71.23 [70.00, 72.00] | +1.23 [-0.20, +3.00] |")
    assert {line.replace("\\|", "").count("|") for line in lines} == {11}


def test_latex_is_a_booktabs_table_whose_texts_are_escaped(table: pd.DataFrame) -> None:
    lines = to_latex(table, METRIC, EXTRA).splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrrrrl}"
    assert [lines[i] for i in (1, 3, -2, -1)] == [r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"]
    assert lines[2].startswith(r"variant & n & target\_test\_top1 \% {[}95 \% interval] & gain, points")
    assert lines[5].startswith(r"a\_b 5\% \textbar{} fc\textgreater{}head \& \textbackslash{}x & 6 & 71.23 [70")
    assert lines[5].endswith(r"& 50 \% {[}sic] \\"), "a [ behind \\ would begin a length"
    assert lines[5].split(" & ")[3] == "+1.23 [$-$0.20, +3.00]"
    assert lines[4].split(" & ")[3] == "--"


def test_csv_is_exact_and_holds_no_formula(table: pd.DataFrame) -> None:
    read = pd.read_csv(io.StringIO(to_csv(table)))
    assert read["variant"].tolist() == [*table["variant"][:2], "'=1+1"]
    numbers = table.select_dtypes("number").columns
    pd.testing.assert_frame_equal(read[numbers], table[numbers], check_exact=True)


def test_terminals_get_lines_and_pipes_aligned_text(table: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(table, METRIC)
    plain = capsys.readouterr().out.splitlines()
    assert plain[0].startswith("variant") and "\x1b" not in plain[0]
    assert len(plain) == 4
    print_table(table, METRIC, rich_output=True)
    assert "┃" in capsys.readouterr().out
