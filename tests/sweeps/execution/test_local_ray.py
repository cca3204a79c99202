"""The Ray of a sweep starts beside its plan, and is gone when the sweep is, whatever ended it; on the real Ray."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys, time
import ray
from mergenet.errors import ConfigError
from sweeps.execution.local_ray import is_starting, local_ray, ray_starting, settle
from sweeps.execution.ray_cluster import is_up, quiet

def answer() -> int:
    return ray.get(ray.remote(num_cpus=0)(lambda: 42).remote())

"""
BESIDE = """
with quiet(), ray_starting(2):
    print(is_starting())
    with local_ray(1):
        print(answer(), ray.cluster_resources()["CPU"], len(ray.nodes()))
        with local_ray(1):
            print(is_starting())
        print(answer())
    print(is_starting(), ray.is_initialized())
print(is_up())
with quiet(), local_ray(1):
    print(answer(), ray.cluster_resources()["CPU"])
print(is_up())
"""
REFUSED = """
start = time.perf_counter()
try:
    with quiet(), ray_starting(1):
        time.sleep(1)  # Ray is about to be up
        begun = time.perf_counter()
        raise ConfigError("a value must be another")
except ConfigError as error:
    print(error, time.perf_counter() - begun < 0.2, is_starting())
settle()
print(is_up())
with quiet(), local_ray(1):
    print(answer())
try:
    with quiet(), ray_starting(1):
        raise ConfigError("the process ends without a Ray")
except ConfigError as error:
    print(error)
"""
OURS = """
with quiet():
    ray.init(address="local", num_cpus=3, include_dashboard=False, logging_level="ERROR")
    with ray_starting(1):
        print(is_starting())
        with local_ray(1):
            print(ray.cluster_resources()["CPU"])
    print(is_up())
"""
THREADS = """
import threading
def other():
    print(is_starting())
    with local_ray(1):
        print(answer(), ray.cluster_resources()["CPU"])
with quiet(), ray_starting(2), local_ray(2):
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    print(answer())
print(is_up())
"""
FAILS = """
with quiet():
    try:
        with ray_starting(1):
            print("planned")
            with local_ray(1):
                print("never")
    except Exception as error:
        print(type(error).__name__, error)
print(is_up())
"""


def printed(script: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + script],
        cwd=Path(__file__).parents[3],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


def test_a_ray_that_starts_beside_the_plan_is_the_sweeps() -> None:
    assert printed(BESIDE) == ["True", "42 2.0 1", "False", "42", "False False", "False", "42 1.0", "False"]


@pytest.mark.slow
def test_what_the_plan_refuses_is_said_before_ray_has_stopped() -> None:
    assert printed(REFUSED) == [
        "a value must be another True False",
        "False",
        "42",
        "the process ends without a Ray",
    ]


@pytest.mark.slow
def test_a_ray_of_the_users_is_left_alone() -> None:
    assert printed(OURS) == ["False", "3.0", "True"]


@pytest.mark.slow
def test_a_sweep_in_another_thread_leaves_it_running() -> None:
    assert printed(THREADS) == ["False", "42 2.0", "42", "False"]


def test_a_ray_that_does_not_start_is_found_where_it_is_needed() -> None:
    planned, error, up = printed(FAILS, RAY_TMPDIR="/tmp/" + "x" * 80)
    assert (planned, up) == ("planned", "False")
    assert error.startswith("RayFailed RAY_TMPDIR must have at most ")


def test_what_starts_a_ray_says_which() -> None:
    """Without an address, ray.init joins a cluster that happens to run on the machine, and refuses num_cpus there."""
    files = [file for room in ("sweeps", "benchmarks", "tests") for file in sorted((ROOT / room).rglob("*.py"))]
    calls = {(file, call) for file in files for call in re.findall(r"ray\.init\(\s*(\w*)", file.read_text("utf-8"))}
    assert len(calls) >= 5
    assert not [file for file, first in calls if first != "address"]
