"""Parts of wandb and tensorboardX that no version promises, and that sweeps/tracking uses: told here when they move."""

import importlib.metadata
import inspect
import struct
import time
import tomllib
from pathlib import Path

import wandb
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from wandb.apis.public.runs import RUN_FRAGMENT
from wandb.apis.public.runs import Run as PublicRun
from wandb.proto import wandb_internal_pb2
from wandb.sdk import mailbox, wandb_setup

from analysis.wandb_runs.client import NO_AGENT
from analysis.wandb_runs.framing import BLOCK, FRAME, HEADER, MAGIC
from sweeps.tracking.tensorboard import event_of
from sweeps.tracking.wandb_file import listed
from sweeps.tracking.wandb_run import settings

ROOT = Path(__file__).parents[3]


def test_both_have_an_upper_bound() -> None:
    """And the installed ones are within: what is tested here is what is installed."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    for name, below in (("wandb", "0.32"), ("tensorboardX", "2.7")):
        assert [line.endswith(f",<{below}") for line in wanted if line.startswith(name)] == [True]
        installed = tuple(map(int, importlib.metadata.version(name).split(".")[:2]))
        assert installed < tuple(map(int, below.split(".")))


def test_what_the_mirror_asks_of_wandbs_client() -> None:
    for name in ("HandleAbandonedError", "MailboxClosedError"):  # a process that died
        assert issubclass(getattr(mailbox, name), Exception)
    assert list(inspect.signature(wandb.teardown).parameters) == ["exit_code"]
    assert "settings" in inspect.signature(wandb.setup).parameters
    assert isinstance(inspect.getattr_static(wandb_setup._WandbSetup, "settings"), property)
    assert isinstance(inspect.getattr_static(type(wandb.api), "api_key"), property)
    fields = wandb.Settings.model_fields
    assert {"base_url", *NO_AGENT, *settings(wandb).model_fields_set} <= set(fields)
    options = {"mode", "project", "id", "name", "group", "job_type", "config", "dir", "resume", "reinit", "settings"}
    assert options <= set(inspect.signature(wandb.init).parameters)
    assert "create_new" in str(fields["reinit"].annotation)
    assert isinstance(inspect.getattr_static(wandb.Run, "starting_step"), property)


def test_what_a_table_from_wandb_asks_of_its_public_api() -> None:
    options = {"path", "filters", "per_page", "lazy"}
    assert options <= set(inspect.signature(wandb.Api.runs).parameters)
    assert "use_cache" in inspect.signature(PublicRun.scan_history).parameters
    for name in ("id", "name", "state", "url"):
        assert isinstance(inspect.getattr_static(PublicRun, name), property)
    for name in ("config", "group", "summaryMetrics"):  # attributes by GraphQL's names
        assert f" {name}\n" in RUN_FRAGMENT


def test_the_records_in_wandbs_files() -> None:
    record = wandb_internal_pb2.Record()  # type: ignore[attr-defined] # made when it is imported
    item = record.history.item.add()
    item.nested_key.append("epoch")
    item.value_json = "3"
    again = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
    again.ParseFromString(record.SerializeToString())
    assert again.HasField("history")
    assert [(one.key, list(one.nested_key), one.value_json) for one in again.history.item] == [("", ["epoch"], "3")]


def test_the_frames_of_wandbs_files(tmp_path: Path) -> None:
    """Written by the client itself, offline."""
    run = wandb.init(mode="offline", dir=str(tmp_path), project="p", id="one", settings=settings(wandb))
    run.log({"epoch": 1})
    run.finish()
    found = listed(tmp_path)["one"]
    assert len(found) == 1
    deadline = time.monotonic() + 60  # the client's own process writes, on a busy machine after `finish` has returned
    while len(data := found[0].read_bytes()) < HEADER + FRAME.size and time.monotonic() < deadline:
        time.sleep(0.1)
    assert data.startswith(MAGIC)
    assert (HEADER, BLOCK, FRAME.size) == (7, 2**15, struct.calcsize("<IHB"))
    assert 0 < FRAME.unpack_from(data, HEADER)[1] <= len(data)


def test_tensorboardx_writes_an_event_without_a_thread(tmp_path: Path) -> None:
    assert list(inspect.signature(EventsWriter.write_event).parameters) == ["self", "event"]
    assert list(inspect.signature(EventsWriter.flush).parameters) == ["self"]
    assert list(inspect.signature(EventsWriter.close).parameters) == ["self"]
    writer = EventsWriter(str(tmp_path / "events"))
    event = event_of({"epoch": 2, "loss": 0.5, "name": "x"})
    assert isinstance(event, Event)
    assert isinstance(event.summary, Summary)
    assert (event.step, [(value.tag, value.simple_value) for value in event.summary.value]) == (2, [("loss", 0.5)])
    writer.write_event(event)
    writer.flush()
    assert sum(path.stat().st_size for path in tmp_path.glob("events*")) > 0
    writer.close()
