"""Secrets that a sweep uses, planted and looked for in all that it writes, while it runs and afterwards."""

import tempfile
import threading
from pathlib import Path

import optuna
import pytest

from sweeps.config.loading import dump_sweep
from sweeps.execution.scratch import SCRATCH
from tests.sweeps.base import sweep_config, write_base
from tests.sweeps.postgres import postgres
from tests.sweeps.sweep_command import holding, sweep_command

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

KEY, PASSWORD, TOKEN = "cafe" * 10, "canary-7391", "b0b1" * 16
SEARCH = {"transfer.t_cycle": {"choice": [2, 4]}}


class Watch(threading.Thread):
    """Looks into Ray's and Tune's scratch folders while they are there. seen, bad: files, and those with a secret."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.ended = folder, threading.Event()
        self.seen: set[Path] = set()
        self.bad: set[Path] = set()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            try:
                seen, bad = holding(self.folder.glob(f"{SCRATCH}*"), [KEY, PASSWORD, TOKEN])
            except OSError:  # a file went while it was looked at
                continue
            self.seen |= set(seen)
            self.bad |= set(bad)


def test_no_secret_is_written_or_printed(tmp_path: Path) -> None:
    """The key of W&B, the password of the study's URL, the token of a Ray that asks for one."""
    write_base(tmp_path)
    sweep = sweep_config(SEARCH, num_trials=3, confirm_seeds=1, storage="postgresql", wandb={"mode": "offline"})
    (tmp_path / "tiny.yaml").write_text(dump_sweep(sweep))
    with postgres(PASSWORD) as url, tempfile.TemporaryDirectory(prefix="mergenet-test-") as name:
        short = Path(name)
        watch = Watch(short)
        watch.start()
        secrets = {"WANDB_API_KEY": KEY, "MERGENET_STUDY_URL": url, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        process, left = sweep_command(tmp_path, "run", "tiny.yaml", ray_folder=short / "ray", TMPDIR=name, **secrets)
        watch.ended.set()
        watch.join()
        assert (process.returncode, process.stderr, left) == (0, "", []), process.stdout
        [study] = optuna.get_all_study_summaries(url)
        assert (study.study_name.startswith("tiny-"), study.n_trials) == (True, 3)
        folder = tmp_path / "sweep-results/tiny"
        files, bad = holding([folder, short], [KEY, PASSWORD, TOKEN])
        assert {".wandb", ".log", ".json", ".yaml", ".jsonl"} <= {path.suffix for path in files}
        assert bad == []
    assert {"tuner.pkl"} <= {path.name for path in watch.seen}, "Tune's snapshots were looked at"
    assert watch.bad == set()
    assert not any(secret in process.stdout for secret in (KEY, PASSWORD, TOKEN))
