"""Another package of our name, such as W&B's `sweeps`: one line that says what was found and what to do."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from mergenet.records.packages import OWN, PACKAGES, package_problem, package_problems

ROOT = Path(__file__).parents[3]
ASK = "from mergenet.records.packages import package_problems; print(*package_problems(), sep='\\n')"
# what sweeps-0.3.0 holds that we do, too; its other files have names that ours lack
THEIRS = {
    "sweeps/__init__.py": "from .config import SweepConfig\nfrom .run import next_run\n",
    "sweeps/config/__init__.py": "from .schema import fill_parameter\n",
    "sweeps/config/schema.py": "def fill_parameter(): ...\n",
    "sweeps/run.py": "def next_run(): ...\n",
    "sweeps-0.3.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: sweeps\nVersion: 0.3.0\n",
}


def write(folder: Path) -> None:
    for name, text in THEIRS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def wheel(folder: Path) -> None:
    """Our three packages as pip lays them out."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def python(cwd: Path, *arguments: str, path: tuple[Path, ...]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def asked(*path: Path) -> str:
    """The problems that an interpreter without site-packages finds: ours may be installed there."""
    return python(path[0].parent, "-S", "-c", ASK, path=path).stdout


def test_our_own_are_whole() -> None:
    assert package_problems() == []
    for name, file in PACKAGES.items():
        assert (ROOT / name / file).is_file()
        assert (ROOT / name / "py.typed").is_file()
        assert (ROOT / name / "__init__.py").read_text().splitlines().count(OWN) == 1


def test_theirs_before_ours(tmp_path: Path) -> None:
    """As it is beside an editable install."""
    write(tmp_path)
    done = python(tmp_path.parent, "-m", "mergenet.cli", "sweep", "run", "quickstart", path=(tmp_path, ROOT))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: the package sweeps must be mergenet's own, got that of sweeps 0.3.0 in {tmp_path / 'sweeps'}; "
        "`pip uninstall sweeps`, or use an environment without it\n"
    )
    done = python(tmp_path.parent, "-m", "mergenet.cli", "analyze", "table", "none", path=(tmp_path, ROOT))
    assert "none must be a sweep folder" in done.stderr, "what needs no sweeps goes on"


def test_theirs_after_ours_in_one_folder_and_taken_away_again(tmp_path: Path) -> None:
    wheel(tmp_path)
    assert asked(tmp_path) == "\n"
    write(tmp_path)
    again = "install mergenet again, with pip's --force-reinstall --no-deps\n"
    mine = f"the package sweeps must be mergenet's own, got that of sweeps 0.3.0 in {tmp_path / 'sweeps'}"
    assert asked(tmp_path) == f"{mine}, which wrote over ours; `pip uninstall sweeps`, then {again}"
    for name in THEIRS:
        (tmp_path / name).unlink()
    assert asked(tmp_path) == (
        f"the package sweeps must be mergenet's own, got {tmp_path / 'sweeps'} without its __init__.py, "
        f"as `pip uninstall sweeps` leaves it; {again}"
    )


def test_a_folder_and_a_module_of_somebody(tmp_path: Path) -> None:
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis/__init__.py").touch()
    (tmp_path / "sweeps.py").touch()
    away = "rename it, or take the folder that it is in from PYTHONPATH and sys.path"
    assert asked(tmp_path, ROOT).splitlines() == [
        f"the package sweeps must be mergenet's own, got {tmp_path / 'sweeps.py'}; {away}",
        f"the package analysis must be mergenet's own, got {tmp_path / 'analysis'}; {away}",
    ]
    done = python(tmp_path.parent, "-m", "mergenet.cli", "analyze", "table", ".", path=(tmp_path, ROOT))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "the package analysis must be mergenet's own" in done.stderr


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergenet.records.packages.find_spec", lambda _: None)
    assert package_problem("sweeps") == (
        "the package sweeps must be mergenet's own, got none; "
        "install mergenet again, with pip's --force-reinstall --no-deps"
    )


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Ours as it is built, theirs as PyPI has it."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    done = subprocess.run(
        [*pip, "download", "--no-deps", "--dest", folder, "sweeps==0.3.0"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"PyPI cannot be reached: {done.stderr.splitlines()[-1][:100]}")
    ours = ROOT, folder / "src"
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (folder / "src").mkdir(exist_ok=True)
        shutil.copy(ours[0] / name, ours[1] / name)
    wheel(folder / "src")
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, folder / "src"], check=True, capture_output=True)
    return next(folder.glob("mergenet-*.whl")), next(folder.glob("sweeps-*.whl"))


class Environment:
    """A virtual environment that has our dependencies from the one that the tests run in."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.folder = folder
        self.packages = next(folder.glob("lib/python*/site-packages"))
        (self.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def pip(self, *arguments: str | Path) -> None:
        pip = [sys.executable, "-m", "pip", "--python", self.folder / "bin/python", "--disable-pip-version-check", "-q"]
        subprocess.run([*pip, *arguments], check=True, capture_output=True)

    def install(self, file: Path, *options: str) -> None:
        self.pip("install", "--no-deps", "--no-index", *options, file)

    def sweep(self) -> str:
        """What `mergenet sweep` says of a sweep that there is not."""
        done = subprocess.run(
            [self.folder / "bin/mergenet", "sweep", "run", "nope"],
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        return done.stderr


@pytest.mark.slow
@pytest.mark.long
def test_the_real_package_of_that_name(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    ours, theirs = wheels
    runs = "error: the sweep must be one of"
    mine = "error: the package sweeps must be mergenet's own, got"

    first = Environment(tmp_path / "ours-first")
    first.install(ours)
    assert first.sweep().startswith(runs)
    first.install(theirs)
    assert first.sweep().startswith(
        f"{mine} that of sweeps 0.3.0 in {first.packages / 'sweeps'}, which wrote over ours"
    )
    first.pip("uninstall", "-y", "sweeps")
    assert first.sweep().startswith(f"{mine} {first.packages / 'sweeps'} without its __init__.py")
    first.install(ours, "--force-reinstall")
    assert first.sweep().startswith(runs), "what the message says mends it"

    second = Environment(tmp_path / "theirs-first")
    second.install(theirs)
    second.install(ours)
    assert second.sweep().startswith(runs), "ours are all there, and theirs are broken"
    second.pip("uninstall", "-y", "sweeps")
    assert second.sweep().startswith(f"{mine} {second.packages / 'sweeps'} without its __init__.py")

    editable = Environment(tmp_path / "editable")
    editable.install(ours)
    for name in PACKAGES:
        shutil.rmtree(editable.packages / name)
    (editable.packages / "mergenet.pth").write_text(f"{ROOT}\n")
    assert editable.sweep().startswith(runs)
    editable.install(theirs)
    assert editable.sweep() == (
        f"{mine} that of sweeps 0.3.0 in {editable.packages / 'sweeps'}; "
        "`pip uninstall sweeps`, or use an environment without it\n"
    )
    editable.pip("uninstall", "-y", "sweeps")
    assert editable.sweep().startswith(runs)
