"""What a sweep found, as versioned artifacts of its summary run on W&B.

SWEEP-config    best.yaml                                   type config
SWEEP-report    report.html, where the folder has one       type report
SWEEP-network   the best trial's target network, exported   type model; only if the sweep file asks for it

Each has the aliases `best` and the sweep's name; equal content is no new version. A server that refuses them, or an
export that fails, costs a line and nothing else.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from analysis.names import TRIALS_FOLDER
from mergenet.records.run_record import test_column
from sweeps.config import SweepConfig
from sweeps.trials.files import BEST_FILE, REPORT_FILE

BEST = "best"  # an alias
CONFIG, REPORT, NETWORK = "config", "report", "network"
TYPES = {CONFIG: "config", REPORT: "report", NETWORK: "model"}  # W&B's
WAIT_SECONDS = 20  # for W&B to take one


def log_artifacts(
    run: Any, sweep: SweepConfig, folder: Path, summary: dict[str, Any], say: Callable[[str], None]
) -> None:
    """Of the run of the whole sweep, online: an artifact offline would be staged outside of the sweep folder.

    summary: report/summary.py's. say: called with a line if W&B does not take one; then no other is tried.
    """
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for kind, files in found_files(sweep, folder, summary, Path(scratch)):
                log(run, sweep, kind, files, facts(summary))
    except Exception as error:  # W&B raises anything, and so does an export
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        say(f"wandb: not all artifacts are there ({reason}); what they hold is in the sweep folder")


def found_files(
    sweep: SweepConfig, folder: Path, summary: dict[str, Any], scratch: Path
) -> Iterator[tuple[str, list[Path]]]:
    """What is uploaded, and its files. scratch: where the network is exported to."""
    for kind, name in ((CONFIG, BEST_FILE), (REPORT, REPORT_FILE)):
        if (folder / name).is_file():
            yield kind, [folder / name]
    if sweep.wandb.log_model and summary["best"] is not None:
        yield NETWORK, exported(folder, summary["best"]["trial_id"], scratch)


def log(run: Any, sweep: SweepConfig, kind: str, files: list[Path], metadata: dict[str, Any]) -> None:
    """Raises whatever the client does if W&B refuses it, or does not answer."""
    import wandb

    artifact = wandb.Artifact(f"{sweep.name}-{kind}", TYPES[kind], metadata=metadata)
    for file in files:
        artifact.add_file(str(file))
    run.log_artifact(artifact, aliases=[BEST, sweep.name]).wait(WAIT_SECONDS)


def exported(folder: Path, trial: str, out: Path) -> list[Path]:
    """The weights of the best epoch and the code that reads them. Of several seeds the first one's."""
    from mergenet.export.formats import export_run  # torch

    return export_run(folder / TRIALS_FOLDER / trial, "safetensors", out, measure=False)


def facts(summary: dict[str, Any]) -> dict[str, Any]:
    """Of the best trial: its name, what it was chosen by, and its gain on fresh seeds where it was confirmed."""
    best, metric = summary["best"], summary["metric"]
    if best is None:
        return {}
    test = test_column(metric)
    gain = (summary["confirmation"] or {}).get(test, {}).get("gain", {})
    found = {"trial": best["trial_id"], metric: best["value"]}
    return found | {f"gain_{test}_{key}": value for key, value in gain.items() if value is not None}
