"""Common output of the benchmarks: first the command line and the machine; with --json one object as the last line."""

import argparse
import os
import shlex
from collections.abc import Sequence
from typing import Any

from mergenet.cli.plain_json import json_text
from mergenet.config import Config
from mergenet.records.provenance import provenance


def parser(name: str, summary: str) -> argparse.ArgumentParser:
    """A parser for `python -m benchmarks.<name>` that knows --json."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=summary)
    made.add_argument("--json", action="store_true", help="print the figures as one JSON object, the last line")
    return made


def count(text: str) -> int:
    """For argparse: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def machine(config: Config) -> dict[str, Any]:
    """Hardware, versions and commit that the figures belong to.

    load: the system's load average over the last minute as the benchmark starts (None where there is none). Above 0,
    something else ran on the same cores, and times in milliseconds are too long; ratios within a run hold.
    """
    known = provenance(config, {})
    facts = {key: known[key] for key in ("cpu", "platform", "threads", "device", "gpu", "versions", "git_commit")}
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return facts | {"cores": os.cpu_count(), "load": load}


def header(name: str, arguments: Sequence[str], facts: dict[str, Any]) -> None:
    """The command line and the machine, two lines."""
    versions = facts["versions"]
    named = {
        "threads": facts["threads"],
        "device": facts["gpu"] or facts["device"],
        "torch": versions["torch"],
        "Python": versions["python"],
        "mergenet": versions["mergenet"],
        "load average at start": facts["load"],
    }
    print(f"$ {shlex.join(['python', '-m', f'benchmarks.{name}', *arguments])}")
    print(", ".join([facts["cpu"], f"{facts['cores']} cores", *(f"{k} {v}" for k, v in named.items())]), flush=True)


def footer(name: str, facts: dict[str, Any], seeds: Sequence[int], figures: dict[str, Any]) -> None:
    """One line of JSON: benchmark, machine, seeds, figures. A missing figure (NaN) is null."""
    whole = {"benchmark": name, "machine": facts, "seeds": list(seeds), "figures": figures}
    print(json_text(whole))
