"""Placement groups: the CPUs and GPUs that worker groups have reserved.

The controller of a worker group makes and removes its placement group. If the controller is killed nobody removes it:
Ray does so once the whole job has ended, and Ray Train's cleaner asks the dashboard, which a sweep's Ray does not have
(findings/ray_train_controller_killed.sh).
Then the group that replaces the lost one would wait for ever for what is still reserved.
"""

import contextlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sweeps.trials.messages import JobEvent

HELD = ("CREATED", "PENDING", "PREPARED", "RESCHEDULING")


@dataclass(frozen=True)
class Shape:
    """What a worker group reserves: so many times the resources of a worker."""

    worker: Mapping[str, float]
    fewest: int
    most: int

    def fits(self, bundles: Iterable[Mapping[str, float]]) -> bool:
        found = [dict(bundle) for bundle in bundles]
        return self.fewest <= len(found) <= self.most and all(bundle == self.worker for bundle in found)


class Placements:
    """The placement groups of a pool. To be made before its groups start: what is held then belongs to others."""

    def __init__(self) -> None:
        self.others = set(held())
        self.told: dict[str, str] = {}  # by slot
        self.gone: set[str] = set()  # slots
        self.lock = threading.Lock()  # never held while Ray is asked, which may take a minute

    def listen(self, events: Iterable[JobEvent]) -> None:
        with self.lock:
            for event in events:
                if event["event"] == "ready" and event["job"] not in self.gone:
                    self.told[event["job"]] = event["placement"]

    def end(self, slots: Iterable[str], left: Shape | None) -> None:
        """The group of these slots has ended. left: what it has reserved, if its controller has died.

        What its workers had told is removed. If they had told nothing, or been resized since, that is whatever has its
        shape and nobody else has told; a group that starts at this moment may lose its own, and then tries again.
        """
        with self.lock:
            own = {self.told.pop(slot, "") for slot in slots}
            others = self.others | set(self.told.values())
            self.gone.update(slots)
        if left is None:
            return
        from ray.exceptions import RayError

        with contextlib.suppress(RayError):  # Ray's head is away: so is the group that would wait
            groups = {name: bundles for name, bundles in held().items() if name not in others}
            for name in own & groups.keys() or {name for name, bundles in groups.items() if left.fits(bundles)}:
                remove(name)


def own_placement() -> str:
    """The placement group of this worker; "" if it has none."""
    from ray.util import get_current_placement_group

    group = get_current_placement_group()
    return "" if group is None else str(group.id.hex())


def held() -> dict[str, list[dict[str, float]]]:
    """The bundles of each placement group that this job holds."""
    import ray
    from ray.util import placement_group_table

    job = ray.get_runtime_context().get_job_id()  # at the end of the identifiers of all that it has made
    table: dict[str, Any] = placement_group_table()
    return {
        name: list(facts["bundles"].values())
        for name, facts in table.items()
        if facts["state"] in HELD and name.endswith(job)
    }


def remove(name: str) -> None:
    from ray._raylet import PlacementGroupID
    from ray.util import remove_placement_group
    from ray.util.placement_group import PlacementGroup

    remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(name)))
