"""Training into a run folder: every epoch is recorded (run_writer.py), and a stopped run resumes where it was."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mergenet.config import Config
from mergenet.config.loading import dump_yaml, load_config
from mergenet.errors import CheckpointError, WriteError
from mergenet.learner import distributed
from mergenet.records.atomic import only_writer, write_text
from mergenet.records.checkpoint import load_latest, save_tensors, tidy
from mergenet.records.inputs import CODE, DATA, check_unchanged, code_hashes
from mergenet.records.kept import repair_epochs
from mergenet.records.run_deletion import empty_run
from mergenet.records.run_record import (
    ADAPTER_FILE,
    BEST_FILE,
    CHECKPOINT_FOLDER,
    CONFIG_FILE,
    EPOCH,
    EPOCHS_FILE,
    FAILED,
    FINISHED,
    PROVENANCE_FILE,
    RESULT_FILE,
    RUNNING,
    STATUS,
    STEP,
    STOPPED,
    EpochResult,
    config_hash,
    differences,
    provenance,
    read_epochs,
    read_provenance,
    read_result,
    resumed,
    write_epochs,
    write_record,
)
from mergenet.tasks import contents
from mergenet.tasks.contents import data_lines
from mergenet.training.advice import FEW
from mergenet.training.run_writer import RunWriter
from mergenet.training.trainer import Trainer
from mergenet.training.unchanged import check_finished
from mergenet.training.without_effect import without_effect
from mergenet.transfer.build_links import adapter_tensors
from mergenet.transfer.phase import beyond_the_end

LOG = logging.getLogger(__name__)
# all that is in a run folder beside config.yaml, which comes first and goes last
OWN = (".*.tmp*", PROVENANCE_FILE, EPOCHS_FILE, RESULT_FILE, CHECKPOINT_FOLDER, BEST_FILE, ADAPTER_FILE)
PATIENCE = 15.0  # seconds to wait for another process that still writes to the run folder


def train_run(
    config: Config, folder: Path | str, resume: bool = True, overwrite: bool = False
) -> Iterator[EpochResult]:
    """Trains `config` into `folder`; yields each epoch once its record is safely on disk.

    Checkpoints are two seconds apart, or an epoch if that is longer; the last epoch has one, as has the one after which
    the generator is closed. A run that is killed repeats the epochs since the last one, to the same bits.

    A folder that holds an unfinished run of the same configuration is resumed, a finished one is only read; neither
    if the user's modules or the data have changed since.
    overwrite: deletes the run that the folder holds, of whatever configuration, once the new one can begin.
    What the networks learn from is logged before the first epoch, a line each (level info).
    Closing the generator leaves the run stopped and resumable.
    Raises ConfigError before anything is written, CheckpointError for another run's folder, TrainingDiverged.
    """
    folder = Path(folder)
    known = (folder / CONFIG_FILE).exists()
    if known and overwrite:
        check_deletable(folder)
    elif known:
        check_same(config, folder, resume)
        if read_result(folder)[STATUS] == FINISHED and has_its_epochs(folder):
            check_finished(config, folder)
            yield from recorded(folder)
            return
    else:
        _check_free(folder)
    trainer = Trainer(config, _begun(folder) if known and not overwrite else ())
    with _held(folder):
        if known and overwrite and distributed.is_main():
            empty_run(folder)
        distributed.barrier()
        history = _restore(trainer, folder) if (folder / CONFIG_FILE).exists() else _empty(folder)
        distributed.barrier()  # all workers have read before the first one writes
        if not history:
            for line in without_effect(config):
                warnings.warn(line, stacklevel=2)
            warn_of_few_updates(trainer)
        writer = RunWriter(trainer, folder)
        if distributed.is_main():
            _open(config, folder, trainer, history)
            writer.save_result(RUNNING, history)
            for line in data_lines(data_of(trainer)):
                LOG.info(line)
        distributed.barrier()
        yield from _train(trainer, folder, history, writer)


def _begun(folder: Path) -> list[dict[str, Any]]:
    """The pairs with which a run has trained that is to go on."""
    if not (folder / PROVENANCE_FILE).exists() or not any((folder / CHECKPOINT_FOLDER).glob("*")):
        return []
    pairs: list[dict[str, Any]] = read_provenance(folder).get("pairs", [])
    return pairs


def data_of(trainer: Trainer) -> dict[str, dict[str, Any]]:
    """Network's role -> what it learns from, counted. A source that is replayed has loaded none."""
    source = None if trainer.source is None else trainer.source.learner
    learners = {learner.role: learner for learner in (trainer.target, source) if learner is not None}
    return {role: contents(learner.task, learner.config) for role, learner in learners.items()}


def _check_free(folder: Path) -> None:
    """Raises CheckpointError if a folder without config.yaml holds more than what a kill left of a run's own files."""
    if not folder.exists():
        return
    if not folder.is_dir() or not all(any(path.match(one) for one in OWN) for path in folder.iterdir()):
        raise CheckpointError(f"{folder} must be empty or a run folder, and is neither; choose another folder (--out)")
    if read_epochs(folder) or (folder / BEST_FILE).exists():
        raise CheckpointError(
            f"{folder} holds the epochs of a run and no {CONFIG_FILE}; put that back, delete the folder, or choose "
            "another folder (--out)"
        )


def has_its_epochs(folder: Path) -> bool:
    """Of a finished run. If it lacks them, its last checkpoint may have them; else it trains again. Warns of both."""
    try:
        read_epochs(folder)
    except CheckpointError as error:
        try:
            repair_epochs(folder)
        except CheckpointError:
            warnings.warn(f"{error}, and no checkpoint has its epochs: the run trains again", stacklevel=1)
            return False
        warnings.warn(f"{error}; it is made again from the last checkpoint", stacklevel=1)
    return True


def warn_of_few_updates(trainer: Trainer) -> None:
    """Warns of adapters that never transfer, or start from random weights and get too few updates to change them."""
    transfer, adapter = trainer.transfer, trainer.config.transfer.adapter
    for link in transfer.links:
        if not transfer.updates(link):
            warnings.warn(
                f"nothing is ever transferred through {link.name}: "
                f"{beyond_the_end(trainer.config.transfer, link.every, trainer.total_steps)}; lower "
                "transfer.start_step, or raise transfer.stop_fraction or epochs",
                stacklevel=2,
            )
        elif adapter.kind != "linear" and adapter.init is None and (reach := transfer.reach(link)) < FEW:
            warnings.warn(
                f"the adapter {link.name} gets {len(transfer.updates(link))} updates, which can move its random "
                f"weights by {reach:.0%} of their size at most: too few to learn a map from; use adapter.kind: linear "
                "where the layers share a space, a smaller transfer.t_cycle, or a higher transfer.update.lr",
                stacklevel=2,
            )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The run folder, created if needed, with these workers as its only writers."""
    with ExitStack() as stack:
        if distributed.is_main():
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise WriteError(
                    f"{folder} could not be made: {error.strerror}; choose another folder (--out)"
                ) from None
            stack.enter_context(only_writer(folder, PATIENCE))
        distributed.barrier()
        yield


def _train(trainer: Trainer, folder: Path, history: list[EpochResult], writer: RunWriter) -> Iterator[EpochResult]:
    try:
        yield from history[:]
        for result in trainer.epochs():
            writer.add_epoch([*history, result])
            history.append(result)  # now it is on disk
            yield result
        tested = trainer.test()
        if trainer.transfer.links and distributed.is_main():
            save_tensors(folder / ADAPTER_FILE, adapter_tensors(trainer.transfer.links), {})
        writer.save_result(FINISHED, history, tested)
    except GeneratorExit:
        writer.save_checkpoint(history)
        writer.save_result(STOPPED, history)
        raise
    except KeyboardInterrupt:  # in the middle of a step: no state to go on from, so the last checkpoint is
        writer.stop_there()
        raise
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        writer.save_result(FAILED, history, error=str(error) or type(error).__name__)
        raise


def check_same(config: Config, folder: Path, resume: bool = True) -> None:
    """Raises CheckpointError unless the run in the folder has this configuration and may be resumed."""
    if not resume:
        raise CheckpointError(f"{folder} holds a run already; choose another folder (--out), or resume it")
    there = config_hash(load_config(str(folder / CONFIG_FILE)))
    if there != config_hash(config):
        raise CheckpointError(
            f"{folder} holds a run of another configuration (hash {there}, this one is {config_hash(config)}); "
            "choose another folder (--out), or delete that run with overwrite=True (--overwrite)"
        )


def check_deletable(folder: Path) -> None:
    """Raises CheckpointError unless the folder holds a run, and no folder that a run does not make."""
    strange = [path.name for path in folder.iterdir() if path.is_dir() and path.name != CHECKPOINT_FOLDER]
    whole = (folder / PROVENANCE_FILE).is_file() or [path.name for path in folder.iterdir()] == [CONFIG_FILE]
    if strange or not whole:
        got = f"the folder {sorted(strange)[0]}" if strange else f"no {PROVENANCE_FILE}"
        raise CheckpointError(
            f"overwrite=True (--overwrite) must meet a run folder, got {got} in {folder}; choose another folder (--out)"
        )


def _restore(trainer: Trainer, folder: Path) -> list[EpochResult]:
    """Loads the latest valid checkpoint; returns its epochs."""
    checkpoints = folder / CHECKPOINT_FOLDER
    state = load_latest(checkpoints) if checkpoints.exists() else None
    if state is None or "trainer" not in state:  # the latter of a run that has ended, see records/kept.py
        return []
    if (folder / PROVENANCE_FILE).exists():
        first = read_provenance(folder)
        now = {DATA: _data_hashes(trainer), CODE: code_hashes(trainer.config, known=first.get(CODE) or ())}
        check_unchanged(folder / PROVENANCE_FILE, first, now)
    trainer.load_state_dict(state["trainer"])
    return [EpochResult(**row) for row in state["history"]]


def _empty(folder: Path) -> list[EpochResult]:
    """Removes what a kill left in a folder that is to be a run's, such as checkpoints of an older one. No epochs."""
    if distributed.is_main():
        empty_run(folder)
    return []


def recorded(folder: Path) -> Iterator[EpochResult]:
    """The epochs of a run, read from its record."""
    for row in read_epochs(folder):
        metrics = {k: v for k, v in row.items() if k not in (EPOCH, STEP)}
        if type(row.get(STEP)) is not int:
            raise CheckpointError(f"{folder / EPOCHS_FILE} must hold the step of epoch {row[EPOCH]}; it is damaged")
        yield EpochResult(row[EPOCH], row[STEP], metrics)


def _open(config: Config, folder: Path, trainer: Trainer, history: list[EpochResult]) -> None:
    """Writes the files of a run in progress. A kill after any of the files leaves a run that can be resumed."""
    origin = _origin(config, folder, trainer, len(history))
    tidy(folder / CHECKPOINT_FOLDER)
    write_text(folder / CONFIG_FILE, dump_yaml(config))
    write_record(folder / PROVENANCE_FILE, origin)
    write_epochs(folder, [result.row() for result in history])


def _origin(config: Config, folder: Path, trainer: Trainer, epochs_done: int) -> dict[str, Any]:
    """Provenance of a run: of its start, and of each resumption after a finished epoch.

    Warns if it resumes where bitwise equal results cannot be expected.
    """
    pairs = [pair.model_dump(mode="json") for pair in trainer.config.transfer.written_pairs]
    # pairs as trained, config.yaml may hold patterns
    now = provenance(config, _data_hashes(trainer)) | {"data": data_of(trainer), "pairs": pairs}
    if not epochs_done or not (folder / PROVENANCE_FILE).exists():
        return now
    first = read_provenance(folder)
    none = "none" if config.method == "mergenet" else None  # other methods leave the pairs as they are written
    aligned = [{"align": none} | pair for pair in first.get("pairs", pairs)]  # before 0.2 pairs had no alignment
    if aligned != pairs:
        raise CheckpointError(
            f"{folder} was started with other layers for transfer.pairs ({PROVENANCE_FILE} lists them) than this "
            "version of the networks gives; train into another folder (--out)"
        )
    if changes := differences(first, now):
        warnings.warn(
            f"{folder} goes on with {', '.join(changes)}; "
            "that its results are bitwise those of a run that never stopped is not promised",
            stacklevel=2,
        )
    return resumed(first, now, epochs_done)


def _data_hashes(trainer: Trainer) -> dict[str, str]:
    source = {} if trainer.source is None else {"source": trainer.source.data_hash}
    return {"target": trainer.target.task.data_hash} | source
