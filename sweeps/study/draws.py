"""What decides the last bits of a sweep's draws beside its seed: packages, and the threads of linear algebra.

Optuna's Gaussian process, which draws with several objectives or constraints, optimises its acquisition function with
`greenlet` otherwise than without it.
"""

from typing import Any

from threadpoolctl import threadpool_info

from mergenet.records.provenance import version_of

PACKAGES = ("optuna", "scipy", "numpy", "torch", "greenlet")
THREADS = "threads"
DRAWS = "draws"  # in sweep.json, as the sweep began


def draw_facts() -> dict[str, Any]:
    """Version of each package, None of one that is not installed; threads: most of any BLAS in this process."""
    import scipy.linalg  # noqa: F401  # loads its own BLAS

    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {name: version_of(name) for name in PACKAGES} | {THREADS: max(pools, default=1)}


def draw_changes(then: Any) -> str | None:
    """A line, if draws from here on may have other last bits than those of the sweep's beginning.

    then: `draw_facts` of that; anything else for an older sweep, which has none.
    """
    if not isinstance(then, dict):
        return None
    changed = [f"{name} {_shown(now)} (was {_shown(then[name])})" for name, now in draw_facts().items()
               if name in then and then[name] != now]  # fmt: skip
    if not changed:
        return None
    return f"draws may differ from here on from those of a sweep that never stopped: {', '.join(changed)}"


def _shown(value: Any) -> str:
    return "not installed" if value is None else str(value)
