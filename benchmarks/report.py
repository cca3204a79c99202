"""How long is a report in the making, how large is it, and does a browser show and brush it without a stall?

    python -m benchmarks.report --trials 200 --json
    python -m benchmarks.report --trials 5000 --browser --json

Simulated sweeps of five searched settings with twenty epochs a trial. `longest task`: for how long the browser answered
nothing, at most, while the page opened, and while an axis of the parallel coordinates was brushed.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.report.page import write_report
from benchmarks import common
from benchmarks.browser import brush, chromium, missing
from mergenet.config import Config
from mergenet.config.loading import dump_yaml, parse_config
from mergenet.config.yaml12 import dump_yaml_values
from mergenet.records.run_record import write_epochs, write_record

NAME = "report"
EPOCHS, RUNGS = 20, (2, 6, 20)
GATE, RANK, KIND, CYCLE, PAIRS = (
    *("transfer.adapter.gate", "transfer.adapter.rank", "transfer.adapter.kind", "transfer.t_cycle"),
    "transfer.pairs",
)
LAYERS = [f"layer{i}.conv1>head" for i in range(8)]
SEARCH = {
    GATE: {"float": [0.02, 0.5], "log": True},
    RANK: {"int": [2, 16], "log": True},
    KIND: {"choice": ["linear", "lpka"]},
    CYCLE: {"choice": [4, 8, 16]},
    PAIRS: {"choice": LAYERS},
}


def write_sweep(folder: Path, trials: int, seed: int) -> None:
    """A finished sweep without a confirmation; one trial of three trains to its end. All configurations are alike."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(dump_yaml_values({"name": "simulated", "search": SEARCH, "confirm_seeds": 0}))
    pairs = {"transfer": {"pairs": [{"source": "fc", "target": "classifier.1"}]}}
    config = dump_yaml(parse_config(pairs, "simulated"))
    (folder / "base.yaml").write_text(config)
    write_record(folder / "sweep.json", {"status": "finished"})
    for number in range(trials):
        write_trial(folder / "trials" / f"trial-{number:04d}", number, config, rng)


def write_trial(run: Path, number: int, config: str, rng: np.random.Generator) -> None:
    drawn: dict[str, Any] = {
        GATE: float(np.exp(rng.uniform(np.log(0.02), np.log(0.5)))),
        RANK: int(rng.integers(2, 17)),
        KIND: str(rng.choice(["linear", "lpka"])),
        CYCLE: int(rng.choice([4, 8, 16])),
        PAIRS: str(rng.choice(LAYERS)),
    }
    reached = 0.7 + 0.02 * float(np.log(drawn[GATE])) + 0.01 * float(rng.standard_normal())
    epochs = int(rng.choice(RUNGS))
    curve = [reached * (1 - float(np.exp(-0.3 * epoch))) for epoch in range(1, epochs + 1)]
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(config)
    write_record(run / "provenance.json", {"config_hash": "simulated", "versions": {}})
    costs = {"adapter_parameters": 1000 * drawn[RANK], "seconds_target": 1.0 + float(rng.random())}
    rows = [
        {"epoch": epoch, "step": 100 * epoch, "target_val_top1": value, "target_val_loss": 1 - value, **costs}
        for epoch, value in enumerate(curve, start=1)
    ]
    write_epochs(run, rows)
    whole = epochs == EPOCHS
    test = {"target_test_top1": reached - 0.01, "target_test_loss": 1 - reached} if whole else {}
    best = {"metric": "target_val_top1", "best_epoch": epochs, "target_val_top1": curve[-1]}
    status = {"status": "finished" if whole else "stopped", "error": None, "epochs_done": epochs}
    write_record(run / "result.json", status | best | test)
    about = {"trial_id": run.name, "role": "trial", "seed": 0, "number": number}
    write_record(run / "trial.json", {**about, "state": "complete" if whole else "pruned", "params": drawn})


WATCH = """
window.longest = 0
const note = (one) => { window.longest = Math.max(window.longest, one.duration) }
new PerformanceObserver((list) => list.getEntries().forEach(note)).observe({ entryTypes: ["longtask"] })
"""


def opened(page: Path) -> dict[str, float]:
    """Seconds, as Chromium takes them: until the table stands, and until a brushed axis has filtered it."""
    with chromium() as driver:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        started = time.perf_counter()
        driver.get(page.as_uri())
        until(driver, "return document.querySelectorAll('#table tbody tr').length > 0")
        found = {"seconds to the table": time.perf_counter() - started}
        driver.execute_script("document.querySelector('[data-figure=parallel]').scrollIntoView({block: 'center'})")
        until(driver, "return document.querySelectorAll('.parcoords .axis-brush').length > 0")
        time.sleep(1)
        found["longest task while opening, seconds"] = driver.execute_script("return window.longest") / 1000
        driver.execute_script("window.longest = 0")
        started = time.perf_counter()
        brush(driver, 0, 0.1, 0.5)
        until(driver, "return document.getElementById('count').textContent.includes('brushed')")
        found["seconds of a brush, its drag included"] = time.perf_counter() - started
        time.sleep(1)
        found["longest task while brushing, seconds"] = driver.execute_script("return window.longest") / 1000
    return found


def until(driver: Any, condition: str, patience: float = 60) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, patience, poll_frequency=0.02).until(lambda one: one.execute_script(condition))


def measured(trials: int, seed: int, browser: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "sweep"
        write_sweep(folder, trials, seed)
        times = []
        for _ in range(2):  # the first also imports pandas, plotly, Optuna and scikit-learn
            started, cpu = time.perf_counter(), time.process_time()
            page, _ = write_report(folder)
            times.append((time.perf_counter() - started, time.process_time() - cpu))
        found: dict[str, Any] = {"trials": trials, "MB": page.stat().st_size / 1e6}
        found |= {"seconds": times[0][0], "CPU seconds": times[0][1], "CPU seconds, again": times[1][1]}
        return found | (opened(page) if browser else {})


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = common.parser(NAME, "the time and the size of a report, and how a browser takes it")
    parser.add_argument("--trials", type=common.count, default=200, help="trials of the sweep (default: 200)")
    parser.add_argument("--browser", action="store_true", help="also open and brush it in Chromium")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated trials (default: 0)")
    options = parser.parse_args(arguments)
    if options.browser and (lacks := missing()):
        parser.error(f"--browser must find Chromium: {lacks}")
    facts = common.machine(Config(method="none"))
    common.header(NAME, arguments, facts)
    found = measured(options.trials, options.seed, options.browser)
    for name, value in found.items():
        print(f"{name:<40} {value:.2f}" if isinstance(value, float) else f"{name:<40} {value}")
    if options.json:
        common.footer(NAME, facts, [options.seed], found)


if __name__ == "__main__":
    main()
