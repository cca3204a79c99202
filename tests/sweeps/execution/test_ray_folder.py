"""Where Ray cannot start, one line says why and what to do, before Ray itself would wait or speak of its sockets."""

import os
import socket
from pathlib import Path

import pytest

from sweeps.execution import local_ray
from sweeps.execution.local_ray import start, way_out
from sweeps.execution.ray_folder import SOCKET, SOCKET_BYTES, place_of_ray, ray_folder
from sweeps.trials.errors import RayFailed, write_refusal
from tests.sweeps.small_disk import fill, make_writable, small_disk


@pytest.fixture
def no_place(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_ray_writes_where_ray_itself_would(no_place: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ray._common.utils import get_default_ray_temp_dir

    for values in ({}, {"TMPDIR": str(tmp_path)}, {"TMPDIR": "/tmp", "RAY_TMPDIR": str(tmp_path / "r")}):
        for name, value in values.items():
            no_place.setenv(name, value)
        assert str(place_of_ray()) == get_default_ray_temp_dir()


def test_a_long_tmpdir_is_not_used(no_place: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_place.setenv("TMPDIR", str(tmp_path / ("x" * 80)))
    with ray_folder():
        assert place_of_ray() == Path("/tmp/ray")
        longest = place_of_ray() / SOCKET
        assert len(str(longest)) <= SOCKET_BYTES
    assert "RAY_TMPDIR" not in os.environ


def test_the_limit_is_that_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for length, fits in ((SOCKET_BYTES, True), (SOCKET_BYTES + 1, False)):
        name = "x" * length
        with socket.socket(socket.AF_UNIX) as made:
            if fits:
                made.bind(name)
            else:
                with pytest.raises(OSError, match="too long"):
                    made.bind(name)


def test_a_ray_tmpdir_of_the_users_own_is_not_replaced(no_place: pytest.MonkeyPatch) -> None:
    no_place.setenv("RAY_TMPDIR", "/tmp/" + "x" * 80)
    with pytest.raises(RayFailed, match=r"^RAY_TMPDIR must have at most \d+ bytes, got /tmp/x+; /tmp is the default$"):
        ray_folder().__enter__()


def test_a_folder_that_cannot_be_written(no_place: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.write_text("a file")
    no_place.setenv("RAY_TMPDIR", str(place))
    with no_place.context() as short:
        short.setattr("sweeps.execution.ray_folder.SOCKET_BYTES", 1000)
        with pytest.raises(RayFailed) as caught:
            ray_folder().__enter__()
    assert (
        str(caught.value)
        == f"Ray's folder {place}/ray must be writable, got Not a directory; set RAY_TMPDIR to another"
    )


def test_a_disk_that_is_full_pauses_and_one_that_is_read_only_is_named(
    no_place: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_place.setattr("sweeps.execution.ray_folder.SOCKET_BYTES", 1000)
    with small_disk(tmp_path / "disk", 8) as disk:
        no_place.setenv("RAY_TMPDIR", str(disk))
        with pytest.raises(OSError, match="No space left on device") as caught:  # 8 MiB: too little from the start
            ray_folder().__enter__()
        assert write_refusal(caught.value) is not None
        fill(disk)
        with pytest.raises(OSError, match="No space left on device"):
            ray_folder().__enter__()
        make_writable(disk, False)
        with pytest.raises(RayFailed, match="must be writable, got Read-only file system"):
            ray_folder().__enter__()


def test_a_ray_that_does_not_start_is_tried_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    tries = []

    def refuse(**_: object) -> None:
        tries.append(1)
        raise RuntimeError("The current node timed out\nduring startup.")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(local_ray, "check_room", lambda _: None)
    with pytest.raises(RayFailed) as caught:
        start(1)
    assert len(tries) == 2
    assert str(caught.value).startswith(
        "Ray did not start, twice: RuntimeError: The current node timed out during startup.; if the machine"
    )
    monkeypatch.setattr(ray, "init", lambda **_: tries.append(1) if len(tries) > 2 else refuse())
    start(1)  # the second attempt
    assert len(tries) == 4


def test_a_hook_left_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_RUNTIME_ENV_HOOK", "gone.module.hook")
    assert way_out(ValueError()) == "RAY_RUNTIME_ENV_HOOK in the environment changes how it starts, so unset it"


def test_a_home_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real error of making Ray's folder there."""
    monkeypatch.setenv("HOME", "/dev/null/x")
    with pytest.raises(NotADirectoryError) as error:
        Path("~/.ray").expanduser().mkdir(parents=True)
    assert way_out(error.value) == (
        "Ray keeps a file in /dev/null/x/.ray, so set HOME to a folder that can be written, it is /dev/null/x"
    )
    other = OSError(28, "No space left on device", "/tmp/ray")
    assert way_out(other).startswith("if the machine is too busy, try again later; ")
