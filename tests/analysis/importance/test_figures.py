from pathlib import Path

import plotly.graph_objects as go
import pytest

from analysis.importance import figures
from analysis.importance.figures import DARK, FIGURES, LIGHT, Figure, write_figures
from analysis.importance.findings import Findings, what_mattered
from mergenet.errors import UserError
from tests.analysis.importance.sweeps import GATE, RANK, by_gate, drawn, write_sweep

PAIRS = [[{"source": source, "target": "head"}] for source in ("fc", "a&c")]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """A sweep that every figure can be made of; the name of one layer is not to be taken for HTML."""
    search = {
        GATE: {"float": [0.02, 0.5], "log": True},
        RANK: {"int": [2, 16]},
        "transfer.pairs": {"choice": [[PAIRS[0][0]], [PAIRS[1][0]]]},
    }
    points = [{**one, "transfer.pairs": PAIRS[i % 2]} for i, one in enumerate(drawn(16))]
    states = ["complete"] * 12 + ["pruned"] * 4
    folder = write_sweep(tmp_path_factory.mktemp("figures") / "sweep", points, by_gate, states, search)
    return what_mattered(folder)


@pytest.mark.parametrize("template", [LIGHT, DARK])
@pytest.mark.parametrize("one", FIGURES, ids=lambda one: one.name)
def test_every_figure_says_n_and_units_in_both_themes(found: Findings, one: Figure, template: str) -> None:
    figure = one.draw(found, template)
    assert isinstance(figure, go.Figure)
    assert figure.layout.template.layout.paper_bgcolor == {LIGHT: "white", DARK: "rgb(17,17,17)"}[template]
    assert "n = " in figure.layout.title.text and "sweep, val top1 %" in figure.layout.title.text
    titles = [axis.title.text for axis in (*figure.select_xaxes(), *figure.select_yaxes()) if axis.title.text]
    assert titles or one.name == "marginals"
    assert sum(len(trace.y) for trace in figure.data if trace.y is not None) > 0
    assert figure.layout.paper_bgcolor is None and figure.layout.font.color is None, "left to the template"


def test_figures_show_what_the_tables_hold(found: Findings) -> None:
    bars = figures.importance(found).data[0]
    table = found.importances.dropna(subset=["importance"])
    assert sorted(bars.x) == sorted(table[table["evaluator"] == "PED-ANOVA"]["importance"])
    curves = figures.learning_curves(found)
    assert [trace.name for trace in curves.data] == ["to epoch 2 (4)", "to epoch 4 (12)"]
    assert list(figures.ranking(found).data[-1].y) == found.rank_correlations["correlation"].to_list()
    heat = figures.layer_pairs(found).data[0]
    assert list(heat.y) == ["a&amp;c", "fc"] and [row[0] for row in heat.text] == ["n 6", "n 6"]


def test_no_more_curves_are_drawn_than_a_browser_can(found: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST_CURVES", 5)
    assert "n = 5 of 16 trials" in figures.learning_curves(found).layout.title.text


def test_figures_are_files_that_need_no_network(found: Findings, tmp_path: Path) -> None:
    lines = write_figures(found, tmp_path / "out", DARK)
    assert len(lines) == len(FIGURES) and all(line.startswith("wrote ") for line in lines)
    for one in FIGURES:
        page = (tmp_path / "out" / f"{one.name}.html").read_text()
        assert 'src="plotly.min.js"' in page and "cdn" not in page
    assert (tmp_path / "out/plotly.min.js").stat().st_size > 1_000_000


def test_a_figure_that_the_trials_do_not_allow_is_a_line(tmp_path: Path) -> None:
    found = what_mattered(write_sweep(tmp_path / "s", drawn(10), by_gate))
    lines = write_figures(found, tmp_path / "out")
    assert "no layer_pairs.html: transfer.pairs must be searched for values by layer pair, and it is not" in lines
    assert any(line.startswith("no stopping.html: trials must have been stopped early") for line in lines)
    assert not (tmp_path / "out/stopping.html").exists()


def test_a_folder_that_cannot_be_written_is_one_line(found: Findings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file must be a folder to write in"):
        write_figures(found, tmp_path / "file")


def test_every_figure_has_a_title_and_a_sentence() -> None:
    assert len({one.name for one in FIGURES}) == len(FIGURES)
    for one in FIGURES:
        assert one.title and one.explanation.endswith(".")
