"""Files that start a sweep on a cluster, from the templates in this folder. Nothing is submitted from here.

In a template `@{name}` is a value; a plain `$` is left to the shell.
"""

import importlib.resources
import re
import string
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from mergenet.config.messages import printable
from mergenet.errors import ConfigError
from sweeps.config.loading import sweeps

TEMPLATES = {"job": "job.sh", "slurm": "slurm.sh", "ray-up": "ray-up.yaml", "kuberay": "kuberay.yaml"}
OPTIONS = {  # of each file, beside the folder
    "job": (),
    "slurm": ("nodes", "cpus", "gpus", "memory_gib", "hours", "partition"),
    "ray-up": ("cpus", "gpus", "hosts", "user", "ssh_key"),
    "kuberay": ("nodes", "cpus", "gpus", "memory_gib", "image", "claim"),
}
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*|(~?/)[A-Za-z0-9._:/@+-]*")  # needs no quotes in YAML and shells


@dataclass(frozen=True)
class Launch:
    """Where, and on which machines, a sweep runs.

    sweep: shipped name or absolute path, as the nodes see it. folder: absolute, on storage that all nodes share.
    start: where the driver starts, so that a sweep file finds its base and modules as here.
    head_gib: memory of kuberay's head, see `resources.head_gib`.
    cpus, gpus, memory_gib: of each node. hours: SLURM's limit. hosts: of ray-up, the head first.
    ssh_key: of ray-up, a file of private key here; Ray copies it to the head, which starts the others with it.
    image, claim: of kuberay; the claim is mounted at the folder's parent.
    """

    name: str
    sweep: str
    folder: str
    start: str | None = None
    head_gib: int = 8
    nodes: int = 2
    cpus: int = 4
    gpus: int = 0
    memory_gib: int = 16
    hours: float = 12.0
    partition: str | None = None
    hosts: tuple[str, ...] = ()
    user: str = "ubuntu"
    ssh_key: str | None = None
    image: str | None = None
    claim: str | None = None


class Template(string.Template):
    delimiter = "@"
    pattern = r"@(?:(?P<escaped>@)|\{(?P<braced>[a-z_]+)\}|(?P<named>(?!))|(?P<invalid>\{))"  # type: ignore[assignment]


def render(kind: str, launch: Launch) -> str:
    """The file that starts the sweep. Raises ConfigError for values that cannot be written into it."""
    check(kind, launch)
    text = (importlib.resources.files("sweeps.cli") / TEMPLATES[kind]).read_text(encoding="utf-8")
    return Template(text).substitute(values_of(launch))


def check_options(kind: str, given: Iterable[str]) -> None:
    """Raises ConfigError for an option that the file does not use. given: names of options, as in `Launch`."""
    for name in given:
        if name not in OPTIONS[kind]:
            kinds = " or ".join(kind for kind, names in OPTIONS.items() if name in names)
            raise ConfigError(f"--{name.replace('_', '-')} must be left out with --to {kind}, it is of {kinds}")


def place(kind: str, sweep: str) -> tuple[str, str | None]:
    """A sweep as the nodes will find it, and where its driver starts: `Launch.sweep` and `Launch.start`.

    Raises ConfigError for a relative path where the nodes do not see this folder.
    """
    if sweep in sweeps():
        return sweep, None
    if kind != "kuberay":
        return str(Path(sweep).absolute()), str(Path.cwd())
    if not Path(sweep).is_absolute():
        raise ConfigError(
            "the sweep must be a shipped name or an absolute path, here and in the pods, with --to kuberay, "
            f"got {sweep!r}"
        )
    return sweep, None


def check(kind: str, launch: Launch) -> None:
    if not PurePosixPath(launch.folder).is_absolute():
        raise ConfigError(f"--dir must be an absolute path on storage that all nodes share, got {launch.folder!r}")
    needed = {"ray-up": ("hosts",), "kuberay": ("image", "claim")}.get(kind, ())
    for name in needed:
        if not getattr(launch, name):
            raise ConfigError(f"--{name} must be given with --to {kind}, got nothing")
    for name, value in asdict(launch).items():
        for text in value if isinstance(value, tuple) else [value]:
            if isinstance(text, str) and not PLAIN.fullmatch(text):
                raise ConfigError(
                    f"{name} must hold only letters, digits and ._:/@+- to be written into a file for {kind}, "
                    f"got {printable(text)!r}"
                )


def values_of(launch: Launch) -> dict[str, object]:
    """The values of all templates."""
    options = [f"--gpus-per-node={launch.gpus}"] if launch.gpus else []
    options += [f"--partition={launch.partition}"] if launch.partition is not None else []
    minutes = max(1, round(launch.hours * 60))
    return {
        **asdict(launch),
        "command": command(launch),
        "time": f"{minutes // 60:02d}:{minutes % 60:02d}:00",
        "slurm_options": "".join(f"#SBATCH {option}\n" for option in options),
        "head": launch.hosts[0] if launch.hosts else "",
        "workers": ", ".join(launch.hosts[1:]),
        "ssh_key_line": f"  ssh_private_key: {launch.ssh_key}\n" if launch.ssh_key is not None else "",
        "num_workers": max(0, len(launch.hosts) - 1),
        "kube_name": kube_name(launch.name),
        "kube_gpus": f", nvidia.com/gpu: {launch.gpus}" if launch.gpus else "",
        "mount": str(PurePosixPath(launch.folder).parent),
        "ray_version": metadata.version("ray"),
    }


def command(launch: Launch) -> str:
    """Starts the sweep, or resumes it if the folder holds it. May be put between single or double quotes."""
    folder, join = launch.folder, "--address auto"
    resume = f"mergenet sweep resume {folder} {join}"
    run = f"mergenet sweep run {launch.sweep} --dir {folder} {join}"
    start = f"cd {launch.start} || exit 1; " if launch.start is not None else ""
    return f"{start}export RAY_AUTH_MODE=token; if [ -e {folder}/sweep.json ]; then {resume}; else {run}; fi"


def kube_name(name: str) -> str:
    """A name for Kubernetes: lower case, letters, digits and -, at most 47, because KubeRay appends to it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:47].strip("-") or "sweep"
