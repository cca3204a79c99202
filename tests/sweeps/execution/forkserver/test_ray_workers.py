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
JOINED = """
import os, subprocess, sys
from pathlib import Path
from sweeps.execution.ray_cluster import joined_ray, quiet
from ray.cluster_utils import Cluster
os.environ["RAY_AUTH_MODE"] = "disabled"
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
try:
    with quiet(), joined_ray(cluster.address):
        look()
finally:
    cluster.shutdown()
"""
LOOK = """
def look():
    import ray

    def parent():
        import os
        from pathlib import Path
        return Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode()

    print("forked" if "forkserver.server" in ray.get(ray.remote(num_cpus=0)(parent).remote()) else "fresh")
"""


@pytest.mark.parametrize(
    ("code", "method", "began"),
    [
        pytest.param(LOCAL, "forkserver", "forked", id="started here"),
        pytest.param(LOCAL, "spawn", "fresh", id="spawn", marks=pytest.mark.slow),
        pytest.param(JOINED, "forkserver", "forked", id="joined", marks=pytest.mark.slow),
    ],
)
def test_how_workers_begin(code: str, method: str, began: str) -> None:
    environment = os.environ | {"MERGENET_START_METHOD": method}
    command = [sys.executable, "-c", LOOK + code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == [began], done.stderr
