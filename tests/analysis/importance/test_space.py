import math
from pathlib import Path

import pytest

from analysis.importance.space import Parameter, base_labels, read_parameters
from mergenet.errors import UserError

PAIR = [{"source": "fc", "target": "head"}]


def test_codes_are_equally_likely_to_be_drawn() -> None:
    assert [Parameter("a", (4, 8, 16)).code(value) for value in (4, 8, 16)] == pytest.approx([1 / 6, 1 / 2, 5 / 6])
    log = Parameter("a", (), 0.01, 1.0, log=True)
    assert [log.code(value) for value in (0.01, 0.1, 1.0)] == pytest.approx([0, 0.5, 1])
    whole = Parameter("a", (), 2, 8, whole=True, step=2)
    assert [whole.code(value) for value in (2, 4, 6, 8)] == pytest.approx([1 / 8, 3 / 8, 5 / 8, 7 / 8])


def test_a_foreign_value_has_no_code() -> None:
    assert math.isnan(Parameter("a", ("x", "y")).code("z"))
    assert math.isnan(Parameter("a", (), 0, 1).code("auto"))
    assert math.isnan(Parameter("a", (), 0, 1).code(True)), "a yes is no number"


def test_a_grid_is_of_values_that_can_be_drawn() -> None:
    assert Parameter("a", ("x", "y")).grid() == ["x", "y"]
    assert Parameter("a", (), 3, 9, whole=True, step=2).grid() == [3, 5, 7, 9]
    grid = Parameter("a", (), 0.01, 1.0, log=True).grid(3)
    assert grid == pytest.approx([0.01, 0.1, 1.0])


def test_entries_are_read_as_sweeps_write_them(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        "search:\n"
        "  a.rank: {int: [2, 8], step: 2}\n"
        "  a.gate: {float: [0.1, 1.0], log: true, when: {method: [mergenet]}}\n"
        "  transfer.pairs: {layers: {source: 'f*', target: 'h*'}}\n"
        "  method: {choice: [mergenet, null]}\n"
    )
    found = read_parameters(tmp_path, {"transfer.pairs": ["fc>head", "fc>head", "f2>head"]})
    assert found["a.rank"] == Parameter("a.rank", (), 2, 8, whole=True, step=2)
    assert found["a.gate"] == Parameter("a.gate", (), 0.1, 1.0, log=True, when={"method": ("mergenet",)})
    assert found["transfer.pairs"].choices == ("f2>head", "fc>head"), "what the pattern stood for in the trials"
    assert found["method"].choices == ("mergenet", "null")


@pytest.mark.parametrize("text", ["[]", "search: 3", "search: {a: 3}", "search: {a: {int: [x, y]}}", "a: b"])
def test_a_damaged_sweep_file_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.yaml").write_text(text)
    with pytest.raises(UserError, match=r"sweep\.yaml must be a sweep file, .* the file is damaged$"):
        read_parameters(tmp_path, {})


def test_the_base_is_labelled_as_the_trials_are() -> None:
    base = {"transfer": {"pairs": [{**PAIR[0], "direction": "to_target", "every": None}], "t_cycle": 4}}
    assert base_labels(
        base, ["transfer.pairs", "transfer.t_cycle", "transfer.pairs.0.source", "transfer.pairs.1.x"]
    ) == {
        "transfer.pairs": "fc>head",
        "transfer.t_cycle": 4,
        "transfer.pairs.0.source": "fc",
    }
