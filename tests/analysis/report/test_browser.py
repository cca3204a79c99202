"""The page in a real browser: nothing is requested, brushing, sorting, filtering, links, themes, keyboard, paper."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from analysis.report.evidence import gather
from analysis.report.page import write_report
from benchmarks.browser import brush, chromium, look, missing
from tests.analysis.importance.sweeps import drawn
from tests.analysis.report.sweeps import STATES, reported

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# some twenty seconds, most of them to start the browser and to draw
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=f"needs a browser: {missing()}")]


@pytest.fixture(scope="module")
def browser() -> Iterator["Chrome"]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page beside 70 trials: more than a page of its table."""
    states = [*STATES, *["complete"] * 38]
    folder = tmp_path_factory.mktemp("shown") / "known"
    gains = {"best": 0.03, "shuffled": -0.004}
    return write_report(reported(folder, gains, states=states, points=drawn(len(states))))[0]


@pytest.fixture
def shown(browser: "Chrome", many: Path) -> Iterator["Chrome"]:
    """The page, opened anew at 1280 pixels in the light theme."""
    look(browser, 1280)
    show(browser, many)
    yield browser
    browser.execute_script("localStorage.clear()")


def show(driver: "Chrome", page: Path) -> None:
    """Opens a page and waits for its script: the driver may answer before, from a page to itself with the old one."""
    driver.get("about:blank")
    driver.get(page.as_uri())
    until(driver, "document.getElementById('count')?.textContent")


def reload(driver: "Chrome") -> None:
    js(driver, "void (window.old = true)")
    driver.refresh()
    until(driver, "!window.old && document.getElementById('count')?.textContent")


def js(driver: "Chrome", script: str, *arguments: Any) -> Any:
    return driver.execute_script(f"return {script}", *arguments)


def until(driver: "Chrome", condition: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 60, poll_frequency=0.05).until(lambda one: js(one, condition))


def column(driver: "Chrome", name: str) -> list[str]:
    """The cells of a column, of the rows that are shown."""
    place = js(
        driver, "[...document.querySelectorAll('#table th')].findIndex((one) => one.title === arguments[0])", name
    )
    script = "[...document.querySelectorAll('#table tbody tr')].map((row) => row.cells[arguments[0]].textContent)"
    return list(js(driver, script, place))


def count(driver: "Chrome") -> int:
    return int(js(driver, "document.getElementById('count').textContent").split()[0])


def fill(driver: "Chrome", words: str) -> None:
    field = driver.find_element("id", "filter")
    field.clear()
    field.send_keys(words)


def press(driver: "Chrome", title: str) -> None:
    js(driver, "document.querySelector(`#table th[title='${arguments[0]}'] button`).click()", title)


def draw_all(driver: "Chrome") -> None:
    for name in js(driver, "[...document.querySelectorAll('.figure')].map((one) => one.dataset.figure)"):
        js(driver, "document.querySelector(`[data-figure=${arguments[0]}]`).scrollIntoView({block: 'center'})", name)
        until(
            driver,
            f"document.querySelector('[data-figure={name}] .main-svg, [data-figure={name}] .parcoords') !== null",
        )


def test_every_figure_is_drawn_without_a_request_or_an_error(shown: "Chrome") -> None:
    shown.get_log("browser"), shown.get_log("performance")
    reload(shown)
    draw_all(shown)
    events = [json.loads(entry["message"])["message"] for entry in shown.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith(("data:", "blob:"))] == [shown.current_url]
    assert not [entry for entry in shown.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_policy_stops_a_request_and_a_script(shown: "Chrome") -> None:
    js(
        shown,
        "void (document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.bad = 1'})))",
    )
    assert js(shown, "window.bad") is None
    failed = shown.execute_async_script(
        "fetch('https://example.org').then(() => arguments[0](''), (e) => arguments[0](`${e}`))"
    )
    assert "Failed to fetch" in failed


def test_a_brushed_axis_keeps_its_trials_in_the_table(shown: "Chrome") -> None:
    draw_all(shown)
    everything = count(shown)
    brush(shown, 0, 0.02, 0.45)  # the upper part of the gate's axis
    until(shown, "document.getElementById('count').textContent.includes('brushed')")
    low, high = js(shown, "document.querySelector('[data-figure=parallel]').data[0].dimensions[0].constraintrange")
    gates = [float(cell) for cell in column(shown, "transfer.adapter.gate")]
    assert 0 < len(gates) == count(shown) < everything
    assert 0.02 * 25**low <= min(gates) * 1.001 and max(gates) <= 0.02 * 25**high * 1.001
    brush(shown, 1, 0.02, 0.5)  # and the upper part of the rank's
    until(shown, f"parseInt(document.getElementById('count').textContent) < {len(gates)}")
    assert all(int(cell) >= 8 for cell in column(shown, "transfer.adapter.rank"))
    shown.find_element("id", "clear").click()
    assert count(shown) == everything
    assert not js(
        shown, "document.querySelector('[data-figure=parallel]').data[0].dimensions.some((d) => d.constraintrange)"
    )


def test_of_too_many_trials_some_are_drawn_and_a_brush_keeps_all(
    browser: "Chrome", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.report.parallel.MOST_LINES", 20)
    monkeypatch.setattr("analysis.report.parallel.BEST_LINES", 5)
    folder = reported(tmp_path / "known", {"best": 0.03}, states=["complete"] * 60, points=drawn(60))
    look(browser, 1280)
    show(browser, write_report(folder, tmp_path / "report.html")[0])
    draw_all(browser)
    figure = "document.querySelector('[data-figure=parallel]')"
    assert js(browser, f"{figure}.data[0].ids.length") == 20
    assert "20 of 60 trials are drawn: the best 5" in js(browser, "document.body.textContent")
    js(browser, f"void Plotly.restyle({figure}, {{dimensions: [[...{figure}.data[0].dimensions].reverse()]}})")
    place = js(browser, f"{figure}.data[0].dimensions.findIndex((axis) => axis.label === 'gate')")
    js(browser, f"void Plotly.restyle({figure}, 'dimensions[{place}].constraintrange', [[0.5, 1.0]])")
    until(browser, "document.getElementById('count').textContent.includes('brushed')")
    kept = count(browser)
    gates = [float(cell) for cell in column(browser, "transfer.adapter.gate")]
    everything = gather(folder).trials["transfer.adapter.gate"]
    assert kept == int((everything >= 0.02 * 25**0.5).sum()) > 20
    assert min(gates) >= 0.02 * 25**0.5 * 0.999


def test_a_click_on_a_title_sorts_and_another_turns_it_around(shown: "Chrome") -> None:
    press(shown, "target_val_top1")
    values = [float(cell) for cell in column(shown, "target_val_top1")]
    assert len(values) == 50 and values == sorted(values, reverse=True), "the best first"
    press(shown, "target_val_top1")
    values = [float(cell) for cell in column(shown, "target_val_top1")]
    assert values == sorted(values)
    assert js(shown, "document.querySelectorAll('[aria-sort]').length") == 1
    press(shown, "transfer.adapter.rank")
    ranks = [cell for cell in column(shown, "transfer.adapter.rank") if cell != "-"]
    assert [int(cell) for cell in ranks] == sorted(map(int, ranks))


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        ("state=complete", {"state": lambda cell: cell == "complete"}),
        ("gate<0.05", {"transfer.adapter.gate": lambda cell: float(cell) < 0.05}),
        ("rank>=12 state=pruned", {"transfer.adapter.rank": lambda cell: int(cell) >= 12}),
        ("trial-00", {"trial": lambda cell: cell.startswith("trial-00")}),
    ],
)
def test_words_filter_the_table(words: str, holds: dict[str, Any], shown: "Chrome") -> None:
    everything = count(shown)
    fill(shown, words)
    assert 0 < count(shown) < everything
    for name, test in holds.items():
        assert all(map(test, column(shown, name)))


def test_a_metric_is_compared_as_it_is_shown(shown: "Chrome") -> None:
    name = js(shown, "document.querySelector('#table th[title=target_val_top1]').textContent")
    assert name == "val top1 %"
    fill(shown, "target_val_top1>55")
    assert all(float(cell) > 55 for cell in column(shown, "target_val_top1"))


def test_a_filter_that_nothing_holds_says_so(shown: "Chrome") -> None:
    fill(shown, "nothing-of-this")
    assert re.fullmatch(r"0 of \d+ runs \(filtered\)", js(shown, "document.getElementById('count').textContent"))


def test_pages_follow_one_another(shown: "Chrome") -> None:
    first = column(shown, "trial")
    shown.find_element("id", "following").click()
    second = column(shown, "trial")
    assert len(first) == 50 and second and not set(first) & set(second)
    assert shown.find_element("id", "previous").is_enabled()
    shown.find_element("id", "previous").click()
    assert column(shown, "trial") == first and not shown.find_element("id", "previous").is_enabled()


def test_links_open_the_files_of_a_run(shown: "Chrome", many: Path) -> None:
    row = shown.find_element("css selector", "#table tbody tr")
    links = {link.text: str(link.get_attribute("href")) for link in row.find_elements("tag name", "a")}
    assert {"config", "epochs", "result", "provenance"} < links.keys()
    trial = next(iter(links))
    shown.get(links["result"])
    assert json.loads(shown.find_element("tag name", "pre").text) == json.loads(
        (many.parent / "trials" / trial / "result.json").read_text()
    )
    shown.get(links[trial])
    assert "epochs.jsonl" in shown.find_element("tag name", "body").text, "the folder"


def test_a_row_links_to_its_run_on_w_and_b(
    browser: "Chrome", small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = {"trial-000": "https://host/me/p/runs/known-trial-000", "trial-001": "javascript:alert(1)"}
    monkeypatch.setattr("analysis.report.trials.run_urls", lambda _: urls)
    show(browser, write_report(small, tmp_path / "report.html")[0])
    found = js(browser, "[...document.querySelectorAll('#table a')].filter((one) => one.textContent === 'W&B')")
    assert [one.get_attribute("href") for one in found] == ["https://host/me/p/runs/known-trial-000"]
    row = js(browser, "arguments[0].closest('tr').cells[0].textContent", found[0])
    assert row == "trial-000"


def test_a_click_on_a_mark_finds_its_trial(shown: "Chrome") -> None:
    draw_all(shown)
    script = (
        "void document.querySelector('[data-figure=marginals]').emit('plotly_click', {points: [{text: 'trial-004'}]})"
    )
    js(shown, script)
    assert column(shown, "trial") == ["trial-004"]


def test_the_theme_follows_the_reader_and_then_the_button(shown: "Chrome") -> None:
    from selenium.webdriver.support.color import Color

    def page() -> str:
        return str(
            Color.from_string(shown.find_element("tag name", "body").value_of_css_property("background-color")).hex
        )

    def ink() -> str:
        return str(js(shown, "document.querySelector('[data-figure=gains]')._fullLayout.font.color"))

    draw_all(shown)
    light = page(), ink()
    look(shown, 1280, theme="dark")
    until(shown, "document.getElementById('theme').textContent === 'Light'")
    dark = page(), ink()
    assert light[0] != dark[0] and light[1] != dark[1]
    shown.find_element("id", "theme").click()
    assert (page(), ink()) == light
    reload(shown)
    assert page() == light[0], "the choice is kept"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_never_wider_than_the_screen(width: int, shown: "Chrome") -> None:
    look(shown, width)
    reload(shown)
    draw_all(shown)
    assert js(shown, "document.documentElement.scrollWidth") <= width


def test_the_keyboard_reaches_everything(shown: "Chrome") -> None:
    from selenium.webdriver import ActionChains, Keys

    ActionChains(shown).send_keys(Keys.TAB).perform()
    assert js(shown, "document.activeElement.className") == "skip", "first a way past the links"
    ActionChains(shown).send_keys(Keys.ENTER).perform()
    assert js(shown, "location.hash") == "#answer"
    js(shown, "document.querySelector('#table th[title=seed] button').focus()")
    ActionChains(shown).send_keys(Keys.ENTER).perform()
    assert js(shown, "document.querySelector('#table th[title=seed]').getAttribute('aria-sort')") == "ascending"
    js(shown, "document.getElementById('filter').focus()")
    ActionChains(shown).send_keys("trial-001", Keys.ENTER).perform()
    assert column(shown, "trial") == ["trial-001"], "Enter does not leave the page"


def test_paper_gets_every_figure_in_light_colours(shown: "Chrome") -> None:
    look(shown, 1280, theme="dark")
    reload(shown)
    until(shown, "document.getElementById('theme').textContent === 'Light'")
    js(
        shown,
        "void addEventListener('beforeprint', () => { window.printed = [...document.querySelectorAll('.figure')].map("
        "(one) => [one._fullLayout?.width, one._fullLayout?.font.color]) })",
    )
    pdf = base64.b64decode(shown.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 50_000
    printed = js(shown, "window.printed")
    assert len(printed) >= 8 and all(width == 680 for width, _ in printed)
    assert len({color for _, color in printed}) == 1
    assert js(shown, "document.querySelector('[data-figure=gains]')._fullLayout.font.color") != printed[0][1]
