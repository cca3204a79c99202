"""What a sweep or an ablation found, as versioned artifacts of its summary run on W&B.

SWEEP-config    best.yaml                                   type config
SWEEP-report    report.html, where the folder has one       type report
SWEEP-network   the target network of the run that best.yaml is of, exported   type model; only if the sweep file asks

Each has the aliases `best` and the sweep's name; equal content is no new version. A server that refuses them, or an
export that fails, costs a line and nothing else. Those of an ablation are in sweeps/ablation/results/published.py.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from analysis.names import TRIALS_FOLDER
from analysis.seeds import SEEDS, last_run
from analysis.trial_file import trial_of
from mergenet.errors import named_line
from mergenet.records.run_record import test_column
from sweeps.config import SweepConfig
from sweeps.trials.files import BEST_FILE, REPORT_FILE

BEST = "best"  # an alias
CONFIG, REPORT, NETWORK, ABLATION = "config", "report", "network", "ablation"
TYPES = {CONFIG: "config", REPORT: "report", NETWORK: "model", ABLATION: "ablation"}  # W&B's
WAIT_SECONDS = 20  # for W&B to take one


class Part(NamedTuple):
    """An artifact NAME-kind. aliases: beside the name of the sweep or ablation."""

    kind: str
    files: list[Path]
    aliases: tuple[str, ...] = (BEST,)


def log_artifacts(
    run: Any,
    sweep: SweepConfig,
    found: Callable[[Path], Iterable[Part]],
    metadata: dict[str, Any],
    say: Callable[[str], None],
) -> None:
    """Of the run of the whole folder, online: an artifact offline would be staged outside of the folder.

    found: the artifacts; may write into the folder that it gets, which is deleted in the end.
    say: called with a line if W&B does not take one; then no other is tried.
    """
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for part in found(Path(scratch)):
                log(run, sweep, part, metadata)
    except Exception as error:  # W&B raises anything, and so does an export
        reason = named_line(error)
        say(f"wandb: not all artifacts are there ({reason}); what they hold is in the folder of {sweep.name}")


def of_sweep(sweep: SweepConfig, folder: Path, summary: dict[str, Any], scratch: Path) -> Iterator[Part]:
    """summary: report/summary.py's. scratch: where the network is exported to."""
    for kind, name in ((CONFIG, BEST_FILE), (REPORT, REPORT_FILE)):
        if (folder / name).is_file():
            yield Part(kind, [folder / name])
    if sweep.wandb.log_model and summary["best"] is not None:
        yield Part(NETWORK, exported(best_run(folder, summary["best"]["trial_id"]), scratch))


def log(run: Any, sweep: SweepConfig, part: Part, metadata: dict[str, Any]) -> None:
    """Raises whatever the client does if W&B refuses it, or does not answer."""
    import wandb

    artifact = wandb.Artifact(f"{sweep.name}-{part.kind}", TYPES[part.kind], metadata=metadata)
    for file in part.files:
        artifact.add_file(str(file))
    run.log_artifact(artifact, aliases=[*part.aliases, sweep.name]).wait(WAIT_SECONDS)


def exported(run: Path, out: Path) -> list[Path]:
    """The weights of the best epoch and the code that reads them."""
    from mergenet.export.formats import export_run  # torch

    return export_run(run, "safetensors", out, measure=False)


def best_run(folder: Path, trial: str) -> Path:
    """The run of the best trial that best.yaml is of: that of its last seed."""
    first = folder / TRIALS_FOLDER / trial
    return last_run(first, len((trial_of(first) or {}).get(SEEDS, ())))


def facts(summary: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Of the best trial: its name, what it was chosen by, and its gain on fresh seeds where it was confirmed.

    run, seed: of which best.yaml and the network are.
    """
    best, metric = summary["best"], summary["metric"]
    if best is None:
        return {}
    test = test_column(metric)
    gain = (summary["confirmation"] or {}).get(test, {}).get("gain", {})
    run = best_run(folder, best["trial_id"])
    found = {"trial": best["trial_id"], "run": run.name, "seed": (trial_of(run) or {}).get("seed")}
    found = {key: value for key, value in found.items() if value is not None} | {metric: best["value"]}
    return found | {f"gain_{test}_{key}": value for key, value in gain.items() if value is not None}
