"""A recorded source: trained once, its candidate layers' weights written at every transfer point, then replayed.

Folder: recording.json (what was trained, which layers, how often), epoch-0001.safetensors, ... with one tensor per
step and layer named "<step>/<layer>". recording.json is written last: a folder without it is not a recording.
Until then there is checkpoints/, from which a recording that was stopped resumes.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mergenet.config import Config
from mergenet.config.sections import SourceConfig
from mergenet.config.spec import Spec
from mergenet.errors import CheckpointError, ConfigError, WriteError, unknown_name
from mergenet.layers.current import current_weight
from mergenet.layers.matrices import Layer
from mergenet.learner import distributed
from mergenet.learner.learner import Learner, errors_of
from mergenet.models import weights_hash
from mergenet.records.checkpoint import check_tensors, load_latest, save_checkpoint, save_tensors
from mergenet.records.inputs import CODE, changes, code_hashes, warn_of_other_code
from mergenet.records.models import RecordingInfo, checked
from mergenet.records.run_record import CHECKPOINT_FOLDER, RECORDING_FILE
from mergenet.records.sealed import read_record, write_record
from mergenet.tasks import Description, describe

FORMAT = 1
DESCRIBED = "described"  # its key: what the source's task was, without the data
DTYPE = "dtype"  # of the weights, if it is not fp32
AGAIN = "write one with `mergenet record`"


def fingerprint(config: Config, total_steps: int) -> str:
    """Hash of everything that the source's trajectory depends on, except its data, which has a hash of its own.

    Starting weights count by their content, not by their path. Raises ConfigError if they are not there.
    """
    shown = {"recording", "max_gib", "record_every", "record_dtype"}  # of what it has learned
    source = config.source.model_dump(mode="json", exclude={"kind", *shown})
    with errors_of("source"):
        source["model"]["weights"] = weights_hash(config.source.model)
    source["seed"] = config.seed if config.source.seed is None else config.source.seed
    run = config.model_dump(mode="json", include={"epochs", "device", "threads", "amp", "deterministic"})
    text = json.dumps([FORMAT, source, run, total_steps], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe_source(config: Config) -> None:
    """Within a `built_once`: the layers of a recorded source are found without its data, if the recording says enough.

    Recordings of earlier versions do not. Whether it is one of this source is checked when it is used.
    """
    if config.source.kind != "recorded" or config.source.recording is None:
        return
    with suppress(CheckpointError, KeyError, TypeError, ValueError):
        info = Recording.open(Path(config.source.recording)).info
        own, said = config.source.model_dump(mode="json"), info[DESCRIBED]
        if all(info["source"][key] == own[key] for key in ("task", "data")):
            describe(config.source, Description(Spec.from_json(said["spec"]), dict(said["metadata"])))


def number_size(source: SourceConfig) -> int:
    """Bytes of a recorded number."""
    return 2 if source.record_dtype == "bf16" else 4


def check_room(source: SourceConfig, numbers: int, every: int, total_steps: int) -> None:
    """Raises ConfigError if a recording would be larger than `source.max_gib`.

    numbers: of all recorded layers together. every: steps between two records of them.
    """
    if source.max_gib is None:
        return
    room, point = source.max_gib * 2**30, numbers * number_size(source)
    size = point * math.ceil(total_steps / every)
    if size <= room:
        return
    ways = ["raise it"]
    if point <= room:
        longer = every * math.ceil(math.ceil(total_steps / every) / int(room // point))
        ways.append(f"show each weight for {longer} steps (source.record_every: {longer})")
    if source.record_dtype == "fp32":
        ways.append("halve them (source.record_dtype: bf16)")
    way_out = ", ".join(ways[:-1]) + f", or {ways[-1]}" if len(ways) > 1 else ways[0]
    raise ConfigError(
        f"source.max_gib must hold the recording, {size / 2**30:.3g} GiB (weights every {every} of {total_steps} "
        f"steps), got {source.max_gib:g}; {way_out}"
    )


@dataclass(frozen=True)
class Recording:
    folder: Path
    info: dict[str, Any]
    checked: set[Path] = field(default_factory=set)  # files whose checksum was right

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Raises CheckpointError if the folder is not a finished recording, or its recording.json is damaged."""
        if not (folder / RECORDING_FILE).exists():
            raise CheckpointError(f"source.recording must be a finished recording, got {str(folder)!r}; {AGAIN}")
        try:
            return cls(folder, _read_info(folder))
        except CheckpointError as error:
            raise CheckpointError(
                f"source.recording must be a finished recording, got {str(folder)!r}: {error}"
            ) from None

    def check(self, config: Config, total_steps: int) -> None:
        """Raises ConfigError if this run's source would train differently, or needs steps not recorded."""
        if self.info["fingerprint"] != fingerprint(config, total_steps):
            raise ConfigError(
                "source.recording must come from the same source settings, starting weights, seed, number of steps "
                f"({total_steps}), device and threads as this run's, got {str(self.folder)!r}; "
                "record again with this configuration"
            )
        warn_of_other_code(self.folder, {CODE: self.info.get(CODE, {})}, config)
        if config.source.record_dtype == "fp32" and DTYPE in self.info:
            raise ConfigError(
                f"source.record_dtype must be bf16 with the recording in {str(self.folder)!r}, which holds bf16, got "
                "'fp32'; record again with this configuration"
            )
        if (shown := config.source.record_every) is not None:
            if shown % self.info["every"]:
                raise ConfigError(
                    f"source.record_every must be a multiple of the recording's interval ({self.info['every']} steps), "
                    f"got {shown}; record again with this configuration"
                )
            return
        for i, pair in enumerate(config.transfer.written_pairs):
            every = pair.every or config.transfer.t_cycle
            if every % self.info["every"]:
                raise ConfigError(
                    f"transfer.pairs.{i}.every must be a multiple of the recording's interval "
                    f"({self.info['every']} steps), got {every}; record again with every={every} (--every), or set "
                    f"source.record_every: {self.info['every']}, which shows weights that are some steps old"
                )

    def check_data(self, data_hash: str) -> None:
        """Raises ConfigError unless the source learned from the data with that SHA-256."""
        if self.info["data_hash"] != data_hash:
            raise ConfigError(
                f"source.recording must come from the same data as this run's, got {str(self.folder)!r}, made with "
                f"{str(self.info['data_hash'])[:12]} where this run has {data_hash[:12]}; record again with these data"
            )

    def layer(self, name: str, path: str) -> Layer:
        """A layer that holds the recorded starting weight: what a live source's layer is at step 0."""
        if name not in self.info["layers"]:
            raise ConfigError(unknown_name(path, name, self.info["layers"]) + " (layers in the recording)")
        weight = self.weight(name, 0)
        layer: Layer
        if name in self.info.get("embeddings", ()):
            layer = nn.Embedding(weight.shape[0], weight.shape[1], device="meta")
        elif weight.ndim == 2:
            layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        else:
            height, width = weight.shape[2:]
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], (height, width), bias=False, device="meta")
        layer.weight = nn.Parameter(weight, requires_grad=False)
        return layer

    def weight(self, name: str, step: int) -> Tensor:
        """The layer's weight before the source's step `step`. Raises CheckpointError on a damaged file."""
        path = self.folder / f"epoch-{step // self.info['steps_per_epoch'] + 1:04d}.safetensors"
        try:
            if path not in self.checked:
                check_tensors(path)
                self.checked.add(path)
            with safe_open(path, "pt") as file:
                return file.get_tensor(f"{step}/{name}").float()
        except (OSError, SafetensorError, CheckpointError) as error:
            raise CheckpointError(
                f"source.recording must hold {name} at step {step}, got {error} from {path}; record again"
            ) from None

    def metrics(self, epoch: int) -> dict[str, float]:
        """The source's metrics at the end of the epoch (from 1)."""
        epochs = self.info["epochs"]
        return dict(epochs[epoch - 1]) if epoch <= len(epochs) else {}


class Recorder:
    """Writes a recording; `snapshot` before each optimizer step, `end_epoch` after the last of an epoch.

    Like a run, a recording that was stopped resumes from its last epoch. What another configuration left in the folder
    is replaced. Of several workers only the first writes.
    """

    def __init__(
        self, config: Config, total_steps: int, folder: Path, layers: Mapping[str, Layer], every: int, per_epoch: int
    ) -> None:
        self.folder, self.layers, self.every = folder, layers, every
        self.what: dict[str, Any] = {
            "format": FORMAT,
            "fingerprint": fingerprint(config, total_steps),
            "layers": list(layers),
            "every": every,
            "steps_per_epoch": per_epoch,
            "total_steps": total_steps,
            "source": config.source.model_dump(mode="json"),
        }
        code = code_hashes(config, ["source"])
        self.what |= {CODE: code} if code else {}
        embeddings = [name for name, layer in layers.items() if isinstance(layer, nn.Embedding)]
        self.what |= {"embeddings": embeddings} if embeddings else {}
        self.what |= {DTYPE: "bf16"} if config.source.record_dtype == "bf16" else {}
        # recordings without modules of the user's, or embeddings, in fp32 stay what they were
        self.tensors: dict[str, Tensor] = {}
        self.epochs: list[dict[str, float]] = []
        self.described: dict[str, Any] = {}

    def resume(self, learner: Learner) -> None:
        """Bring the learner, and `epochs`, to where this recording stopped; nothing if it has not begun."""
        self.what["data_hash"] = learner.task.data_hash
        words = {name: text for name, text in learner.task.metadata.items() if name == "tokenizer"}
        self.described = {"spec": learner.task.spec.to_json(), "metadata": words}
        if self._is_finished():
            self.epochs = _read_info(self.folder)["epochs"]
            return
        checkpoints = self.folder / CHECKPOINT_FOLDER
        state = load_latest(checkpoints) if checkpoints.is_dir() else None
        if state is not None and self._is_same(json.loads(state["what"])):
            learner.load_state_dict(state["learner"])
            self.epochs = state["epochs"]

    def snapshot(self, step: int) -> None:
        if step % self.every == 0 and distributed.is_main():
            for name, layer in self.layers.items():
                weight = current_weight(layer).detach()
                weight = weight.to("cpu", torch.bfloat16 if DTYPE in self.what else torch.float32)
                self.tensors[f"{step}/{name}"] = weight.clone()

    def end_epoch(self, metrics: dict[str, float], learner: Learner) -> None:
        if not self.epochs and distributed.is_main():
            self._open()
        self.epochs.append(metrics)
        if not distributed.is_main():
            return
        if self.tensors:  # an epoch between two snapshots has none
            save_tensors(self.folder / f"epoch-{len(self.epochs):04d}.safetensors", self.tensors, {})
        self.tensors = {}
        state = {"what": json.dumps(self.what), "learner": learner.state_dict(), "epochs": self.epochs}
        save_checkpoint(self.folder / CHECKPOINT_FOLDER, len(self.epochs), state)

    def finish(self) -> None:
        if not distributed.is_main():
            return
        if not self._is_finished():
            write_record(self.folder / RECORDING_FILE, self.what | {"epochs": self.epochs, DESCRIBED: self.described})
        shutil.rmtree(self.folder / CHECKPOINT_FOLDER, ignore_errors=True)

    def _open(self) -> None:
        """The folder, cleared of what an older recording left in it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"{self.folder} could not be made: {error.strerror}; choose another") from None
        (self.folder / RECORDING_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.folder / CHECKPOINT_FOLDER, ignore_errors=True)

    def _is_finished(self) -> bool:
        try:
            info = _read_info(self.folder)
        except CheckpointError:
            return False
        return self._is_same(info)

    def _is_same(self, info: Mapping[str, Any]) -> bool:
        """Of the same source; modules of the user's count where both know them, as in `changes`."""
        if any(info.get(key) != self.what.get(key) for key in self.what.keys() - {CODE} | {DTYPE}):
            return False
        there, here = info.get(CODE, {}), self.what.get(CODE, {})
        return isinstance(there, dict) and not changes({CODE: there}, {CODE: here})


def _read_info(folder: Path) -> dict[str, Any]:
    """recording.json. Raises CheckpointError if it is missing, damaged or of another format."""
    path = folder / RECORDING_FILE
    info = read_record(path, AGAIN)
    if "format" in info and info["format"] != FORMAT:
        raise CheckpointError(f"{path} must have format {FORMAT}, got {info['format']!r}; {AGAIN}")
    checked(RecordingInfo, info, str(path), f"the file is damaged, {AGAIN}")
    return info
