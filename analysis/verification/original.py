"""The run that a configuration file comes from: beside the file, or in a folder that is named."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.names import SWEEP_FILE
from analysis.tables.load import run_folders
from mergenet.config import Config
from mergenet.config.loading import load_config
from mergenet.config.yaml12 import load_yaml
from mergenet.errors import UserError
from mergenet.records.run_record import (
    CONFIG_FILE,
    FINISHED,
    STATUS,
    RunRecord,
    config_hash,
    read_provenance,
    read_result,
    read_run,
)

BEST_YAML = "best.yaml"


@dataclass(frozen=True)
class Original:
    """config: as the file has it. record: of the run that it comes from, which trained to its end."""

    config: Config
    record: RunRecord

    @property
    def folder(self) -> Path:
        return self.record.folder


def find_original(file: Path, run: Path | None = None) -> Original:
    """The finished run with the configuration of `file`: in `run`, or else in the folder that holds the file.

    file: best.yaml of a sweep, what `analyze best --out` wrote, a run's config.yaml, or the folder of either.
    run: a run folder, a sweep or a folder of runs. A run that replayed a recorded source is found by the live one.
    Raises UserError if there is no such run, or it did not train to its end.
    """
    file = _config_file(Path(file))
    config = load_config(str(file))
    place = file.parent if run is None else Path(run)
    hashes = {config_hash(config), config_hash(_replayed(config))}
    way_out = "name the run, or the sweep that it is in, by run=... (--run DIR)"
    try:
        folders = run_folders(place)
    except UserError as error:
        raise UserError(f"{file} must come with the run that it is the configuration of; {way_out}: {error}") from None
    found = [folder for folder in folders if _recorded_hash(folder) in hashes]
    if not found:
        raise UserError(
            f"{file} must be the configuration of a run in {place}, got none with its hash {config_hash(config)} among "
            f"{len(folders)}; {way_out}, or undo what was edited in the file"
        )
    finished = [folder for folder in found if read_result(folder)[STATUS] == FINISHED]
    if not finished:
        status = read_result(found[0])[STATUS]
        raise UserError(f"{found[0]} must have trained to its end to be verified, got status {status}")
    return Original(config, read_run(finished[0]))


def _config_file(file: Path) -> Path:
    if not file.is_dir():
        return file
    inside = [file / name for name in (BEST_YAML, CONFIG_FILE) if (file / name).is_file()]
    if not inside:
        raise UserError(f"{file} must be a configuration file or hold {BEST_YAML} or {CONFIG_FILE}, and does not")
    return inside[0]


def _replayed(config: Config) -> Config:
    """The same with a recorded source, as a trial of a sweep has it; not a valid configuration, but it has a hash."""
    return config.model_copy(update={"source": config.source.model_copy(update={"kind": "recorded"})})


def _recorded_hash(folder: Path) -> str | None:
    try:
        return read_provenance(folder).get("config_hash")
    except (UserError, OSError):  # failed before it began, or damaged
        return None


def num_workers(run: Path) -> str:
    """How many processes trained each trial of the run's sweep, as sweep.yaml has it; empty if one, or no sweep."""
    file = run.resolve().parent.parent / SWEEP_FILE
    values = load_yaml(file.read_text(encoding="utf-8"), str(file)) if file.is_file() else {}
    workers = values.get("workers_per_trial", 1) if isinstance(values, dict) else 1
    return "" if workers in (1, [1, 1]) else str(workers)


def beside(run: Path) -> Iterator[Path]:
    """The other run folders in the folder that a run is in."""
    yield from (folder for folder in run_folders(run.resolve().parent) if folder.name != run.resolve().name)
