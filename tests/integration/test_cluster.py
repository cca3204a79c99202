"""Several nodes, each a raylet of its own on this machine: one leaves while it trains, one joins, a sweep over both."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from mergenet.records.run_record import read_run
from mergenet.records.sealed import read_record
from sweeps.config.loading import dump_sweep
from sweeps.execution.groups import Groups
from sweeps.execution.ray_cluster import joined_ray, quiet
from sweeps.execution.resources import groups_of
from sweeps.execution.worker_pool import WorkerPool
from sweeps.trials.errors import Suspended
from sweeps.trials.jobs import Jobs
from sweeps.trials.messages import JobEvent
from tests.sweeps.base import space_of, sweep_config, write_base
from tests.sweeps.sweep_command import CANARY, holding, sweep_command

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

SEARCH = {"transfer.t_cycle": {"choice": [2, 4]}}
MEMORY = 100 * 1024**2  # of an object store: jobs and rows only


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without CPUs: whatever waited there for one would wait for ever."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": MEMORY})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def wait_for(done: Callable[[], bool], what: str, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def jobs_in(folder: Path, epochs: int) -> Jobs:
    return Jobs(folder, space_of(SEARCH, epochs=epochs), None)


def test_a_node_leaves_while_it_trains_and_another_joins(cluster: Cluster, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=MEMORY) for _ in range(2)]
    events = list[JobEvent]()

    def of(kind: str) -> list[JobEvent]:
        return [event for event in events if event["event"] == kind]

    with quiet(), joined_ray(cluster.address), WorkerPool(2, events.append, Groups(), tmp_path) as slots:
        for number in range(2):
            slots.submit(jobs_in(tmp_path, 40).trial(number, {}))
        wait_for(lambda: {e["job"] for e in of("row")} == {"trial-000", "trial-001"}, "both nodes train")
        cluster.remove_node(nodes[0], allow_graceful=False)
        outcomes = slots.wait(["trial-000", "trial-001"])
        assert [outcome["state"] for outcome in outcomes.values()] == ["complete", "complete"]
        groups = {event["job"] for event in of("ready")}
        cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        wait_for(lambda: len({event["job"] for event in of("ready")}) > len(groups), "the new node is used")
        for number in (2, 3):
            slots.submit(jobs_in(tmp_path, 10).trial(number, {}))
        slots.wait(["trial-002", "trial-003"])
    assert len(of("lost")) == 1, "one job was on the node that left"
    last = {event["job"]: event["group"] for event in of("started")}
    assert last["trial-002"] != last["trial-003"], "both nodes took one"
    for number, epochs in enumerate((40, 40, 10, 10)):
        rows = [event["row"]["epoch"] for event in of("row") if event["job"] == f"trial-{number:03d}"]
        assert rows == list(range(1, epochs + 1)), "every epoch is told once"
        assert [row["epoch"] for row in read_run(tmp_path / f"trials/trial-{number:03d}").epochs] == rows


def test_slots_that_shared_a_node_which_leaves_go_on_wherever_there_is_room(cluster: Cluster, tmp_path: Path) -> None:
    """A group of two workers, then each on a node of its own."""
    both = cluster.add_node(num_cpus=2, object_store_memory=MEMORY)
    events = list[JobEvent]()
    with quiet(), joined_ray(cluster.address), WorkerPool(2, events.append, Groups(), tmp_path) as slots:
        assert len(slots.threads) == 1, "one group"
        for number in range(2):
            slots.submit(jobs_in(tmp_path, 40).trial(number, {}))
        wait_for(lambda: len({e["job"] for e in events if e["event"] == "row"}) == 2, "both train")
        cluster.remove_node(both, allow_graceful=False)
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        outcomes = slots.wait(["trial-000", "trial-001"])
    assert [outcome["state"] for outcome in outcomes.values()] == ["complete", "complete"]
    for number in range(2):
        rows = [e["row"]["epoch"] for e in events if e["event"] == "row" and e["job"] == f"trial-{number:03d}"]
        assert rows == list(range(1, 41)), "every epoch is told once"


def test_a_group_grows_when_a_node_joins(cluster: Cluster, tmp_path: Path) -> None:
    """An elastic trial starts with one worker and goes on with two, from its last checkpoint.

    Ray counts the nodes every 20 s, and its workers look at that every 60 s unless told otherwise. The job must not end
    before.
    """
    cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    sweep = sweep_config(SEARCH, executor="per_trial", workers_per_trial=[1, 2], slots=1)
    events = list[JobEvent]()
    groups = replace(groups_of(sweep, {"device": "cpu"}, 0), look_seconds=2)
    with quiet(), joined_ray(cluster.address), WorkerPool(1, events.append, groups, tmp_path) as slots:
        slots.submit(jobs_in(tmp_path, 100_000).trial(0, {}))
        wait_for(lambda: any(e["event"] == "row" for e in events), "it trains")
        cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        wait_for(lambda: ray.available_resources().get("CPU", 0) == 1, "the second CPU is there")
        wait_for(lambda: ray.available_resources().get("CPU", 0) == 0, "and taken")
        seen = len(events)
        wait_for(lambda: sum(e["event"] == "row" for e in events[seen:]) > 2, "and it goes on")
        slots.suspend()
        with pytest.raises(Suspended):
            slots.wait_unfinished()
    rows = [event["row"]["epoch"] for event in events if event["event"] == "row"]
    assert rows == list(range(1, len(rows) + 1)), "every epoch is told once"
    assert not [event for event in events if event["event"] == "lost"], "to grow is not to be lost"


def test_a_sweep_over_two_nodes(cluster: Cluster, tmp_path: Path) -> None:
    """As many CPUs as slots: a relay or queue that took one would stop the sweep."""
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    write_base(tmp_path)
    search = SEARCH | {"target.optimizer.lr": {"float": [0.01, 0.05]}}
    (tmp_path / "tiny.yaml").write_text(dump_sweep(sweep_config(search, num_trials=4, confirm_seeds=1, slots=2)))
    process, _ = sweep_command(tmp_path, "run", "tiny.yaml", "--address", cluster.address)
    assert process.returncode == 0, process.stdout + process.stderr
    assert f"joined Ray at {cluster.address}: 3 nodes, 2 CPUs, 0 GPUs" in process.stdout
    folder = tmp_path / "sweep-results/tiny"
    summary = read_record(folder / "summary.json")
    assert [trial["state"] for trial in summary["trials"]] == ["complete"] * 4
    assert summary["confirmation"]["seeds"] == [1]
    assert list(folder.glob(".mergenet-ray-*")) == []
    assert cluster.head_node is not None
    files, bad = holding([folder, Path(cluster.head_node.get_session_dir_path())], [CANARY])
    assert any(path.suffix == ".log" for path in files)
    assert bad == [], "the driver's secrets stay in its environment"
