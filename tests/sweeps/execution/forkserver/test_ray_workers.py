"""The workers of a real Ray are forked: those of a Ray that a sweep starts, and those of one that it joins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
LOCAL = """
from sweeps.execution.local_ray import local_ray
from sweeps.execution.ray_cluster import joined_ray, quiet
with quiet():
    with local_ray(1):
        look()
"""
CLUSTER = """
import os, time
from ray.cluster_utils import Cluster
from sweeps.execution.ray_cluster import joined_ray, quiet
os.environ["RAY_AUTH_MODE"] = "disabled"
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
try:
    with quiet():
        run()
finally:
    cluster.shutdown()
"""
JOINED = """
def run():
    with joined_ray(cluster.address):
        look()
"""
TWO_NODES = """
def run():
    other = cluster.add_node(num_cpus=0, resources={"other": 1})
    with joined_ray(cluster.address):
        servers = look(resources={"other": 1}), look(num_cpus=1)
        print(servers[0] != servers[1])
        cluster.remove_node(other)
        time.sleep(2)  # a worker looks for its raylet once a second
        print(look(num_cpus=1) == servers[1])
"""
LOOK = """
def look(**options):
    import ray

    def parent():
        import os
        from pathlib import Path
        return os.getppid(), Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode()

    process, command = ray.get(ray.remote(**{"num_cpus": 0} | options)(parent).remote())
    print("forked" if "forkserver.server" in command else "fresh")
    return process
"""


@pytest.mark.parametrize(
    ("code", "method", "began"),
    [
        pytest.param(LOCAL, "forkserver", "forked", id="started here"),
        pytest.param(LOCAL, "spawn", "fresh", id="spawn", marks=pytest.mark.slow),
        pytest.param(JOINED + CLUSTER, "forkserver", "forked", id="joined", marks=pytest.mark.slow),
    ],
)
def test_how_workers_begin(code: str, method: str, began: str) -> None:
    assert printed(code, method) == [began]


@pytest.mark.slow
def test_two_nodes_of_one_machine_have_a_server_each() -> None:
    """A worker ends with the raylet that its server was loaded for."""
    assert printed(TWO_NODES + CLUSTER, "forkserver") == ["forked", "forked", "True", "forked", "True"]


def printed(code: str, method: str) -> list[str]:
    environment = os.environ | {"MERGENET_START_METHOD": method}
    command = [sys.executable, "-c", LOOK + code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
