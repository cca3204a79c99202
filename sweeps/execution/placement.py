"""Placement groups: the CPUs and GPUs that a worker group has reserved.

The controller of a worker group makes and removes its placement group. If the controller is killed nobody removes it:
Ray does so once the whole job has ended, and Ray Train's cleaner asks the dashboard, which a sweep's Ray does not have.
Then the group that replaces the lost one would wait for ever for what is still reserved.
"""

from collections.abc import Set

HELD = ("CREATED", "PENDING", "PREPARED", "RESCHEDULING")


def own_placement() -> str:
    """The placement group of this worker; "" if it has none."""
    from ray.util import get_current_placement_group

    group = get_current_placement_group()
    return "" if group is None else str(group.id.hex())


def remove_left(own: Set[str], others: Set[str]) -> None:
    """Removes the placement groups of a worker group whose controller has died.

    own: those that its workers had told; none if they had not started. others: those of other worker groups. Without
    its own it removes whatever this job holds and no other group has told; a group that starts at this moment may lose
    its own, and then tries again.
    """
    import ray
    from ray._raylet import PlacementGroupID
    from ray.util import placement_group_table, remove_placement_group
    from ray.util.placement_group import PlacementGroup

    job = ray.get_runtime_context().get_job_id()  # at the end of the identifiers of all that it has made
    for name, facts in placement_group_table().items():
        trains = any("CPU" in bundle for bundle in facts["bundles"].values())  # Tune's relays take none
        held = facts["state"] in HELD and name.endswith(job) and trains
        if held and (name in own if own else name not in others):
            remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(name)))
