"""Where a result came from: versions, commit, machine, seeds and hashes. Imports no torch."""

import functools
import hashlib
import json
import os
import platform
import re
import subprocess
import tomllib
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import mergenet
from mergenet.config import Config
from mergenet.config.user_code import read_sources
from mergenet.records.inputs import CODE, DATA, code_hashes, short, users_modules
from mergenet.records.inputs import WEIGHTS as WEIGHTS_HASHES

# What "resumed" records again; the configuration, and with it the seeds, cannot have changed
RESUMED = (
    *("started", "versions", "git_commit", "git_dirty", "platform", "cpu", "device", "gpu"),
    *(DATA, WEIGHTS_HASHES, CODE, "code_git_commit", "code_git_dirty"),
)
PLACES = {"torch": ("versions", "torch"), "CPU": ("cpu",), "device": ("device",), "GPU": ("gpu",)}
# what else two trainings of one configuration may differ in, on one machine or two
ENVIRONMENT = {
    **{name: ("versions", name) for name in ("mergenet", "python", "numpy", "torchvision")},
    **{"commit": ("git_commit",), "uncommitted edits": ("git_dirty",), "commit of your code": ("code_git_commit",)},
    **PLACES,
    **{"operating system": ("platform",), "threads": ("threads",)},
}
ADAPTER_FILE = "adapter.safetensors"  # of a run folder
WEIGHTS = "source", "target", "adapter"  # what may start from weights of another training
BEFORE: dict[str, dict[str, Any]] = {  # what version 0.1.0 did, by later settings
    "source": {"record_every": None, "record_dtype": "fp32"},
    "transfer": {"align": "none"},
    "adapter": {"source_basis": "start", "start": "random", "init": None},
    "pairs": {"align": None},
}


def config_hash(config: Config) -> str:
    """First 12 hex digits of the SHA-256 of the configuration's canonical JSON (keys sorted, no whitespace).

    It covers all that changes results. So it leaves out the run's `name`, a limit of size, and where a recording or an
    adapter to start from lies, because a folder may be moved: whether a recording is one of this very source and its
    data is checked when it is opened; of an adapter's run the name stays, and what is in it is hashed beside
    (`weights_hashes`).
    Settings that version 0.1.0 did not have are left out where they are what it did: its runs keep their hashes.
    """
    values = config.model_dump(mode="json", exclude={"name"})
    values["source"]["recording"] = None
    del values["source"]["max_gib"]
    transfer = values["transfer"]
    if transfer["adapter"]["init"] is not None:
        transfer["adapter"]["init"] = adapter_file(transfer["adapter"]["init"]).parent.name
    pairs = transfer["pairs"] if isinstance(transfer["pairs"], list) else []
    sections = {"source": [values["source"]], "transfer": [transfer], "adapter": [transfer["adapter"]], "pairs": pairs}
    for name, before in BEFORE.items():
        for section in sections[name]:
            for key in [key for key, value in before.items() if section[key] == value]:
                del section[key]
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def provenance(config: Config, data_hashes: dict[str, str]) -> dict[str, Any]:
    """All that is needed to say where a result came from; nothing that names a person, a host or a secret.

    data_hashes: data set's role ("source", "target") -> SHA-256 of its content.
    """
    commit, dirty = _code_state()
    code = code_hashes(config)
    files = tuple(str(source.path.absolute()) for source in read_sources(users_modules(config)).values())
    code_commit, code_dirty = _users_state(files, tuple(code.items()))
    device, gpu = _device(config.device)
    return {
        "config_hash": config_hash(config),
        DATA: dict(data_hashes),
        WEIGHTS_HASHES: weights_hashes(config),
        CODE: code,
        "seeds": _seeds(config),
        "versions": {"python": platform.python_version(), "mergenet": mergenet.__version__}
        | {name: version_of(name) for name in ("torch", "torchvision", "numpy", "scipy", "ray", "optuna", "greenlet")},
        "git_commit": commit,
        "git_dirty": dirty,
        "code_git_commit": code_commit,
        "code_git_dirty": code_dirty,
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "threads": config.threads,
        "device": device,
        "gpu": gpu,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def resumed(first: dict[str, Any], now: dict[str, Any], epochs_done: int) -> dict[str, Any]:
    """`first`, the provenance of a run's start, with that of its present resumption at the end of "resumed".

    epochs_done: how many epochs the process that resumes found trained.
    """
    entry = {"epochs_done": epochs_done} | {key: now[key] for key in RESUMED}
    return first | {"resumed": [*first.get("resumed", []), entry]}


def differences(first: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What has changed since the run was started, of all that may change the bits of its results."""
    hashes = {f"{role} weights": ("weights_hashes", role) for role in WEIGHTS}
    pairs = [(name, _at(first, keys), _at(now, keys)) for name, keys in PLACES.items()]
    pairs += [(name, short(_at(first, keys)), short(_at(now, keys))) for name, keys in hashes.items()]
    return [f"{name} {new} (was {old})" for name, old, new in pairs if old != new]


def environment_changes(first: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Versions, commit, machine and threads in which two runs differ, by where each of them ended.

    What one of them does not tell, as older records, counts as equal.
    """
    ends = [{**origin, **origin.get("resumed", [{}])[-1]} for origin in (first, now)]
    pairs = [(name, *(_at(end, keys) for end in ends)) for name, keys in ENVIRONMENT.items()]
    return [
        f"{name} {_word(new)} (was {_word(old)})" for name, old, new in pairs if old != new and None not in (old, new)
    ]


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value[:12] if isinstance(value, str) and re.fullmatch("[0-9a-f]{40}", value) else value  # of a commit


def elsewhere(first: dict[str, Any], device: str) -> bool:
    """Whether the run of this provenance ended on another machine, device or version of torch than is here."""
    name, gpu = _device(device)
    now = {"versions": {"torch": version_of("torch")}, "cpu": _cpu_model(), "device": name, "gpu": gpu}
    last = first.get("resumed", [first])[-1]
    return any(_at(last, keys) != _at(now, keys) for keys in PLACES.values())


def _at(values: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout of mergenet that `folder` lies in, and whether tracked files were changed since.

    (None, None) without git, or where the checkout around the package is another project's.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or not _is_mergenet(Path(top) / "pyproject.toml"):
        return None, None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return _git(folder, "rev-parse", "HEAD"), None if changes is None else bool(changes)


@functools.cache
def _code_state() -> tuple[str | None, bool | None]:
    """`git_state` of this package, asked once a process: what is committed or edited later is not what runs here."""
    return git_state(Path(__file__).parent)


@functools.cache
def _users_state(files: tuple[str, ...], _hashes: tuple[tuple[str, str], ...]) -> tuple[str | None, bool | None]:
    """Commit of the user's checkout, and whether the user's modules differ from it; once a process for one source."""
    if not files:
        return None, None
    folder = Path(files[0]).parent
    changes = _git(folder, "status", "--porcelain", "--", *files)
    return _git(folder, "rev-parse", "HEAD"), None if changes is None else bool(changes)


def _git(folder: Path, *arguments: str) -> str | None:
    # GIT_DIR and its like, set while a git hook runs, would point git at another repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _is_mergenet(pyproject: Path) -> bool:
    try:
        values = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return values.get("project", {}).get("name") == "mergenet"


def version_of(package: str) -> str | None:
    """None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def weights_hashes(config: Config) -> dict[str, str]:
    """SHA-256 of the starting weights of networks, by role, and of adapters, where they start from a file."""
    networks = {"target": config.target}
    if config.method != "none" and config.source.kind != "self":
        networks["source"] = config.source
    hashes: dict[str, str | None] = {}
    if any(network.model.weights is not None for network in networks.values()):
        from mergenet.models import weights_hash  # here, so that reading records needs no torch

        hashes = {role: weights_hash(network.model) for role, network in networks.items()}
    if config.method == "mergenet" and config.transfer.adapter.init is not None:
        hashes["adapter"] = hashlib.sha256(adapter_file(config.transfer.adapter.init).read_bytes()).hexdigest()
    return {role: value for role, value in hashes.items() if value is not None}


def adapter_file(init: str | Path) -> Path:
    """What transfer.adapter.init names: a run folder's adapter, or the file itself."""
    path = Path(init)
    return path if path.suffix == Path(ADAPTER_FILE).suffix else path / ADAPTER_FILE


def _seeds(config: Config) -> dict[str, int]:
    seeds = {"run": config.seed}
    for side, network in (("source", config.source), ("target", config.target)):
        seeds[side] = config.seed if network.seed is None else network.seed
        seeds[f"{side}_split"] = network.data.split_seed
    return seeds


def _device(name: str) -> tuple[str, str | None]:
    """The device that is used, and the model of the GPU if it is one."""
    if name == "cpu":
        return name, None
    import torch  # here, so that reading records needs no torch

    if not torch.cuda.is_available():
        return "cpu" if name == "auto" else name, None
    device = "cuda" if name == "auto" else name
    return device, torch.cuda.get_device_name(device)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
