"""The copy of a sweep folder: on a real S3 protocol and on a local path; cut off anywhere it can be gone on with."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mergenet.errors import ConfigError
from mergenet.records.atomic import write_text
from sweeps.config.loading import dump_sweep
from sweeps.study.study import SweepStudy
from sweeps.tracking.remote_copy import (
    MANIFEST,
    Copy,
    Stamps,
    check_url,
    claim,
    fetch,
    filesystem,
    push,
    sizes,
    stamps,
    upload,
    write,
)
from sweeps.trials.sweep_dir import load_resumable
from tests.sweeps.base import space_of, sweep_config
from tests.sweeps.s3 import BUCKET, S3
from tests.sweeps.spaces import SEARCH

END = {"event": "ended", "job": "trial-000", "role": "trial", "state": "complete", "error": None}


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with S3() as server:
        yield server


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/copies/one"
    server = request.getfixturevalue("server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep folder with a study and a trial that has ended."""
    folder = tmp_path / "sweep"
    trial = folder / "trials/trial-000"
    (trial / "checkpoints/epoch-000001").mkdir(parents=True)
    (trial / "checkpoints/epoch-000001/tensors.safetensors").write_bytes(bytes(range(256)) * 9000)
    (trial / "checkpoints/epoch-000001/state.json").write_text("{}")
    (trial / "trial.json").write_text('{"state": "complete"}')
    (trial / "epochs.jsonl").write_text('{"epoch": 1}\n')
    (folder / "sweep.json").write_text('{"status": "running"}')
    (folder / ".lock").write_text("process 1")
    (folder / ".mergenet-ray-x").mkdir()
    (folder / ".mergenet-ray-x/state").write_text("")
    (trial / ".result.1-2.tmp.json").write_text("half")
    drawn = study(folder)
    drawn.draw(0)
    drawn.flush()
    return folder


def study(folder: Path) -> SweepStudy:
    return SweepStudy(sweep_config(SEARCH), space_of(SEARCH), "max", folder)


def names(url: str) -> set[str]:
    return set(sizes(filesystem(url)))


def test_there_and_back(url: str, folder: Path) -> None:
    claim(url, folder, "tiny")
    there, known = filesystem(url), Stamps()
    push(folder, there, known)
    assert names(url) == {MANIFEST, *known}
    assert not any("/." in f"/{name}" for name in known)
    drawn, files = study(folder).known(), {name: (folder / name).read_bytes() for name in known if name != "study.db"}
    with pytest.raises(ConfigError, match=r"got '.*/sweep'; go on with that one by `mergenet .* folder \(--dir\)$"):
        fetch(url)
    other = folder.with_name("other")
    assert fetch(url, other) == other
    assert study(other).known() == drawn
    shutil.rmtree(folder)
    assert fetch(url) == folder
    assert {name: (folder / name).read_bytes() for name in files} == files
    assert study(folder).known() == drawn
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_what_a_killed_fetch_left_of_another_copy_is_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/copy"
    claim(url, folder, "tiny")
    push(folder, filesystem(url), Stamps())
    left = tmp_path / ".other.fetched/trials/trial-007"
    left.mkdir(parents=True)
    (left / "trial.json").write_text("{}")
    assert not (fetch(url, tmp_path / "other") / "trials/trial-007").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("file:///copies/x#1", "must be without #, got 'file:///copies/x#1'; in a folder's name it is written %23"),
        ("file:///copies/q?v", "after the ? only region, "),
    ],
)
def test_a_url_of_which_a_part_would_be_dropped_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_url(url)
    assert message in str(refused.value)


def test_only_what_changed_is_copied_and_what_is_gone_goes(url: str, folder: Path) -> None:
    claim(url, folder, "tiny")
    there, known = filesystem(url), Stamps()
    push(folder, there, known)
    there.delete_file("trials/trial-000/epochs.jsonl")
    with pytest.raises(OSError, match=r"1 files are not there, among them trials/trial-000/epochs\.jsonl"):
        push(folder, there, known)
    checkpoints = folder / "trials/trial-000/checkpoints"
    (checkpoints / "epoch-000001").rename(checkpoints / "epoch-000002")
    push(folder, there, known)
    assert names(url) == {MANIFEST, *stamps(folder)}


class Gone(Exception):
    """The machine."""


def cut(monkeypatch: pytest.MonkeyPatch, url: str, folder: Path, before: str) -> set[str]:
    """An update that ends before that file is sent; what is there then."""

    def stops(folder: Path, name: str, *rest: Any) -> bool:
        if name == before:
            raise Gone
        return upload(folder, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("sweeps.tracking.remote_copy.upload", stops)
        with pytest.raises(Gone):
            push(folder, filesystem(url), Stamps())
    return names(url)


def test_a_first_copy_that_is_cut_off_anywhere_can_be_gone_on_with_or_begun_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study is there before any record, and what says that something is complete comes after it."""
    (folder / "base.yaml").write_text("{}")
    write_text(folder / "sweep.yaml", dump_sweep(sweep_config(SEARCH)))
    run, source = folder / "trials/trial-000", folder / "source"
    for name in ("config.yaml", "provenance.json", "best.safetensors", "result.json"):
        (run / name).write_text("{}")
    shutil.copytree(run / "checkpoints", source / "checkpoints")
    (source / "epoch-0001.safetensors").write_bytes(b"1")
    whole, order = f"file://{tmp_path}/whole", Stamps()
    push(folder, filesystem(whole), order)
    assert set(order) == stamps(folder).keys()
    for before in order:
        url = f"file://{tmp_path}/copy/{len(list((tmp_path / 'copy').glob('*')))}"
        claim(url, folder, "tiny")
        there = cut(monkeypatch, url, folder, before)
        if "sweep.yaml" not in there:
            claim(url, folder, "tiny")
            continue
        back = fetch(url, tmp_path / f"back-{before.replace('/', '-')}")
        load_resumable(back)
        got = back / "trials/trial-000"
        runs = [(got / name).exists() for name in ("config.yaml", "provenance.json", "best.safetensors", "trial.json")]
        assert runs == sorted(runs, reverse=True), before
        assert not any(runs) or (back / "study.db").exists()
        for data, checkpoint in (
            (got / "epochs.jsonl", got),
            (back / "source/epoch-0001.safetensors", back / "source"),
        ):
            found = list((checkpoint / "checkpoints").rglob("*.*"))
            assert len(found) in (0, 2), "a checkpoint is whole or not there"
            assert not found or data.exists(), before
        assert not (got / "result.json").exists() or (got / "checkpoints").exists()
    push(folder, filesystem(url), Stamps())
    assert names(url) == {MANIFEST, *stamps(folder)}, "the next update completes it"


def test_a_checkpoint_that_is_deleted_meanwhile_leaves_no_half(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its run trains on; the newer one comes in its place."""
    url, checkpoints, known = f"file://{tmp_path}/copy", folder / "trials/trial-000/checkpoints", Stamps()

    def trains_on(folder: Path, name: str, *rest: Any) -> bool:
        done = upload(folder, name, *rest)
        if name.endswith("epoch-000001/tensors.safetensors"):
            (checkpoints / "epoch-000001").rename(checkpoints / "epoch-000002")
        return done

    monkeypatch.setattr("sweeps.tracking.remote_copy.upload", trains_on)
    push(folder, filesystem(url), known)
    assert names(url) == {*stamps(folder)} == {*known}
    assert {Path(name).parent.name for name in known if "checkpoints" in name} == {"epoch-000002"}


def test_half_a_checkpoint_is_not_fetched(folder: Path, tmp_path: Path) -> None:
    """Earlier versions left such copies."""
    url = f"file://{tmp_path}/copy"
    claim(url, folder, "tiny")
    push(folder, filesystem(url), Stamps())
    filesystem(url).delete_file("trials/trial-000/checkpoints/epoch-000001/tensors.safetensors")
    assert not (fetch(url, tmp_path / "other") / "trials/trial-000/checkpoints").exists()


def test_a_run_that_began_anew_is_not_mixed_with_the_old_one(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a confirmation of another best trial is, or what a retry deletes: by a driver that does not know the copy."""
    run = folder / "trials/trial-000"
    for name in ("config.yaml", "result.json"):
        (run / name).write_text("{}")
    push(folder, filesystem(url), Stamps())
    (run / "epochs.jsonl").write_text("")
    (run / "result.json").write_text('{"epochs_done": 0}')
    there = cut(monkeypatch, url, folder, "trials/trial-000/epochs.jsonl")
    assert "trials/trial-000/result.json" not in there
    assert "trials/trial-000/trial.json" in there, "the same is kept"
    (run / "config.yaml").write_text("{other: 1}")
    there = cut(monkeypatch, url, folder, "trials/trial-000/config.yaml")
    assert not any(name.startswith("trials/trial-000") for name in there)


def test_a_trial_that_ends_meanwhile_waits_for_the_next_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the copy could say that it has ended, and lack its last epoch."""
    there, known = filesystem(f"file://{tmp_path}/copy"), Stamps()
    found = stamps(folder)
    (folder / "trials/trial-000/trial.json").write_text('{"state": "pruned"}')
    with monkeypatch.context() as patch:
        patch.setattr("sweeps.tracking.remote_copy.stamps", lambda _: found)
        push(folder, there, known)
    assert "trials/trial-000/trial.json" not in sizes(there)
    push(folder, there, known)
    assert "trials/trial-000/trial.json" in sizes(there)


@pytest.mark.slow
def test_an_outage_is_said_once_and_made_up_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with S3() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{BUCKET}/outage"
        claim(url, folder, "tiny")
        server.stop()
        with Copy(url, folder, said.append) as copy:
            for _ in range(3):
                copy(END)
            wait_until_done(copy)
            assert len(said) == 1
            assert said[0].startswith(f"copy: {url} cannot be written now (")
            server.start()
        assert len(said) == 1, "whole in the end"
        assert names(url) == {MANIFEST, *stamps(folder)}
        server.stop()
        with Copy(url, folder, said.append):
            pass
    assert said[-1].startswith(f"copy: {url} is not whole (")
    assert said[-1].endswith("completes it")


def wait_until_done(copy: Copy) -> None:
    done = threading.Event()
    copy.background(done.set)
    assert done.wait(60)


def test_without_a_url_there_is_no_copy(folder: Path) -> None:
    with Copy(None, folder, print) as copy:
        copy(END)
    assert not copy.background.started


def test_a_place_with_other_files_holds_no_sweep_to_go_on_with(url: str, folder: Path) -> None:
    write(filesystem(url), "notes.txt", b"mine")
    with pytest.raises(
        ConfigError, match=rf"copy_to \(--copy-to\) must be empty, got {url} with 1 files; choose another$"
    ):
        claim(url, folder, "tiny")


def test_a_place_is_claimed_once(url: str, folder: Path) -> None:
    claim(url, folder, "tiny")
    assert json.loads(filesystem(url).open_input_stream(MANIFEST).read())["folder"] == str(folder)
    with pytest.raises(
        ConfigError, match=r"got copy\.json alone: .* before the first job ended; begin it again by the"
    ):
        fetch(url)
    claim(url, folder, "tiny")  # its driver was killed before there was anything to go on with
    for other in ((folder.with_name("other"), "tiny"), (folder, "other")):
        with pytest.raises(
            ConfigError, match=rf"copy_to \(--copy-to\) must be empty, got {url} with 1 files; .* resume {url}`"
        ):
            claim(url, *other)
    (folder / "sweep.yaml").write_text("{}")
    push(folder, filesystem(url), Stamps())
    with pytest.raises(ConfigError, match="must be empty"):
        claim(url, folder, "tiny")


def test_where_there_is_no_copy(url: str) -> None:
    with pytest.raises(ConfigError, match=r"must hold the copy of a sweep \(with copy\.json\) to be resumed"):
        fetch(url)


@pytest.mark.parametrize(
    "bad",
    [
        "s3://canary:canary@bucket/sweeps",
        "s3://bucket/sweeps?access_key=canary&secret_key=canary",
        "s3://bucket/sweeps?endpoint_override=canary:canary@host",
    ],
)
def test_a_url_holds_no_key_and_a_bad_one_is_not_shown(bad: str) -> None:
    with pytest.raises(ConfigError, match="must hold no user, key or password") as caught:
        check_url(bad)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("bad", ["bucket/sweeps", "s3://bucket", "s3://bucket/"])
def test_a_url_names_a_folder(bad: str) -> None:
    with pytest.raises(ConfigError, match=f"must be like s3://BUCKET/FOLDER, got '{bad}'"):
        check_url(bad)


def test_storage_of_no_kind_that_is_known(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"copy_to \(--copy-to\) must be storage that can be written, got ftp://a/b"):
        claim("ftp://a/b", folder, "tiny")
