"""report.html as a file: whole, closed to the network, and hostile names harmless in it."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis.report.page import write_report
from mergenet.errors import UserError
from tests.analysis.folders import make_run
from tests.analysis.importance.sweeps import drawn
from tests.analysis.report.sweeps import reported

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """The tags of a page with their attributes, its scripts and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, _: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def data(self) -> dict[str, Any]:
        return dict(json.loads(self.scripts[0]))

    @property
    def policy(self) -> str:
        found = [about for tag, about in self.tags if tag == "meta" and "http-equiv" in about]
        return str(found[0]["content"])


def page_of(folder: Path, out: Path | None = None) -> Page:
    return Page(write_report(folder, out)[0].read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page(written.read_text(encoding="utf-8"))


def test_nothing_is_fetched(page: Page) -> None:
    loading = ("script", "link", "img", "iframe", "object", "embed", "source", "video", "audio", "base")
    assert not [about for tag, about in page.tags if tag in loading and {"src", "href"} & about.keys()]
    hrefs = [str(about["href"]) for tag, about in page.tags if tag == "a"]
    assert hrefs and not [href for href in hrefs if ":" in href]


def test_the_policy_lets_only_the_pages_own_scripts_run(page: Page) -> None:
    assert page.policy.startswith("default-src 'none';")
    assert "http" not in page.policy and "connect-src" not in page.policy
    allowed = re.findall(r"sha256-([^']+)", page.policy)
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in page.scripts]
    assert digests[1:] == allowed, "the first holds data, which is no script"
    assert not any(name.startswith("on") for _, about in page.tags for name in about), "no handler in the markup"


def test_the_first_screen_answers_before_anything_is_shown(page: Page) -> None:
    order = [
        page.text.index(words) for words in ("best configuration?", "run next?", "The gain, and what", "All trials")
    ]
    assert order == sorted(order)
    assert "a gain is shown at the 5 % level" in page.text
    assert "it is the source, as far as these controls tell" in page.text


def test_the_table_holds_every_run_with_its_files(page: Page, folder: Path) -> None:
    table = page.data["table"]
    runs = {path.name for path in (folder / "trials").iterdir()}
    name = [column["name"] for column in table["columns"]].index("trial")
    assert {row[name] for row in table["rows"]} == runs
    assert len(table["links"]) == len(table["rows"]) == len(table["has"])
    assert all(table["files"][i] == "config.yaml" for i in (has[0] for has in table["has"]))


def test_links_lead_from_the_page_to_the_runs(small: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere" / "a b.html"
    page = page_of(small, place)
    for link in page.data["table"]["links"]:
        assert (place.parent / link / "config.yaml").is_file()
    hrefs = [str(about["href"]) for tag, about in page.tags if tag == "a" and not str(about["href"]).startswith("#")]
    assert len(hrefs) >= 2 + 6 * 3, "the best, no transfer, and three runs of each seed"
    assert all((place.parent / href).is_dir() for href in hrefs)


def test_every_seeds_numbers_link_to_its_runs(page: Page) -> None:
    hrefs = [str(about["href"]) for tag, about in page.tags if tag == "a"]
    for name in ("confirm-best-6", "confirm-none-6", "confirm-shuffled-6", "confirm-noise-6"):
        assert [href for href in hrefs if href.endswith(f"trials/{name}/")]


def test_figures_are_bare_and_both_themes_are_there_once(page: Page) -> None:
    figures = page.data["figures"]
    assert {"gains", "parallel", "importance", "path", "marginals", "pareto", "learning_curves"} <= figures.keys()
    assert not [name for name, one in figures.items() if "template" in one["layout"]]
    light, dark = (page.data["templates"][name]["layout"]["font"]["color"] for name in ("light", "dark"))
    assert light != dark
    assert "transfer.pairs must be searched for values by layer pair, and it is not" in page.text


def test_what_users_named_is_text_only(tmp_path: Path) -> None:
    name = "<b>run & 'one'"
    make_run(tmp_path / "runs" / name, (0.5, 0.6))
    trial = {"role": "trial", "number": 0, "params": {"transfer.adapter.rank": 4}}
    failed = trial | {"state": "failed", "error": HOSTILE}
    make_run(tmp_path / "runs" / "other", (0.5,), None, failed, more={"status": "failed", "error": HOSTILE})
    folder = tmp_path / "runs"
    page = page_of(folder, tmp_path / "report.html")
    assert not [tag for tag, _ in page.tags if tag in ("img", "b")]
    assert len(page.scripts) == 3, "data, plotly, ours"
    rows = page.data["table"]["rows"]
    assert any(HOSTILE in row for row in rows) and any(name in row for row in rows)
    raw = (tmp_path / "report.html").read_text()
    assert HOSTILE not in raw and "<img src=x" not in raw
    (quoted,) = (link for link in page.data["table"]["links"] if "other" not in link)
    assert quoted == "runs/%3Cb%3Erun%20%26%20%27one%27"


def test_numbers_that_are_no_json_are_told_as_text(tmp_path: Path) -> None:
    folder = reported(tmp_path / "s", states=["complete"] * 3, points=drawn(3))
    rows = [json.loads(line) for line in (folder / "trials/trial-001/epochs.jsonl").read_text().splitlines()]
    rows[-1]["target_val_loss"] = float("inf")
    (folder / "trials/trial-001/epochs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "inf" in [cell for row in page_of(folder).data["table"]["rows"] for cell in row]


def test_the_file_is_small_enough(written: Path) -> None:
    assert written.stat().st_size < 6e6, "plotly's script is 4.8 MB of it"


def test_a_wrong_name_and_a_place_that_cannot_be_written_are_one_line(small: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--out \(out=\) must be a file named \.html, got '.*report\.pdf'"):
        write_report(small, tmp_path / "report.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file must be a folder to write in"):
        write_report(small, tmp_path / "file" / "report.html")


def test_a_sweep_that_failed_or_began_has_a_page_too(tmp_path: Path) -> None:
    failed = page_of(reported(tmp_path / "failed", states=["failed"] * 3, points=drawn(3), status="failed"))
    assert "there is none yet" in failed.text and "3 runs have failed" in failed.text
    assert "Not shown: " in failed.text
    begun = page_of(reported(tmp_path / "begun", states=["running"], points=drawn(1), status="running"))
    assert "the sweep has not ended" in begun.text
