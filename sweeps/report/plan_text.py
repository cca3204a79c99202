"""The text of `mergenet sweep plan`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from analysis.measures import excesses
from analysis.statistics.power import smallest_p_text
from sweeps.trials.recorded_source import layers_text

GIB, MIB = 1024**3, 1024**2


def plan_lines(found: dict[str, Any]) -> Iterator[str]:
    """found: what `sweeps.planning.cost.estimate` returned."""
    epochs, space, time = found["epochs"], found["space"], found["time"]
    yield f"sweep {found['name']}: nothing has been created"
    if found["shortage"] is not None:
        yield found["shortage"]
    yield from found["warnings"]
    count = found["seeds_per_trial"]
    more = f", {found['adapter_trainings']} to train its adapter" if found["adapter_trainings"] else ""
    runs = f"{found['trials']} of the search, 1 without transfer, {found['confirmations']} to confirm the best{more}"
    yield f"trials: {runs}"
    if number := found["statistics"]["seeds"] * len(controls := found["confirm_controls"]):
        yield f"  {number} of these are controls ({', '.join(controls)}); they train if the best has method mergenet"
    if count > 1:
        yield (
            f"  {count} seeds of each trial that reaches its last epoch, and without transfer: about "
            f"{epochs['trainings']:.0f} trainings of the search, at most {count * found['trials']}"
        )
    yield (
        f"epochs: {epochs['expected']:.0f} expected with early stopping, at most {epochs['full']} "
        f"(search {epochs['search_expected']:.0f} of {epochs['search_full']}; {epochs['of_a_run']} a run)"
    )
    yield from data_text(found["data"], found["searched_data"])
    upto = "up to " if space["conditional"] else ""
    continuous = f", times {upto}{space['continuous']} ranges of numbers" if space["continuous"] else ""
    branches = f"; {space['conditional']} values are drawn in some branches only" if space["conditional"] else ""
    yield f"space: {space['combinations']:,} combinations at most{continuous}{branches}"
    yield from warm_lines(found["warm_start"])
    yield from objective_lines(found)
    yield f"source: {source_text(found['source'])}"
    yield from diagnosis_lines(found)
    yield f"budget: {budget_text(found['budget'])}"
    yield (
        f"time: about {duration(time['hours'])}, {duration(time['trial_hours'])} of all trials together, "
        f"{time['gpu_hours']:.2f} GPU-hours"
    )
    yield (
        f"  from {time['timed_steps']} timed steps of the base configuration on {time['device']}: "
        f"{time['epoch_seconds']:.2f} s an epoch alone, times {time['slower_when_busy']:g} with all slots busy"
    )
    if time["budget_ends_search"]:
        yield "  the budget ends the search before all trials have begun"
    yield from disk_lines(found["disk"])
    yield from memory_lines(found["memory"])
    yield from statistics_lines(found["statistics"])
    if count > 1:
        yield f"  the search compares means over {count} seeds, {count**-0.5:.2f} times as noisy as one seed"


def data_text(data: Mapping[str, Any], searched: Sequence[str]) -> Iterator[str]:
    """What the networks of the base learn from, in the words of `mergenet train`. searched: settings that change it."""
    from mergenet.tasks.contents import data_lines  # torch

    yield from data_lines(data)
    if searched:
        yield f"  so the base; trials draw {', '.join(searched)}"


def objective_lines(found: dict[str, Any]) -> Iterator[str]:
    extreme = {"max": "highest", "min": "lowest"}
    objectives = ", ".join(f"{extreme[mode]} {name}" for name, mode in found["objectives"].items())
    yield f"objective{'s' if len(found['objectives']) > 1 else ''}: {objectives}"
    if len(found["objectives"]) > 1:
        yield f"  early stopping looks at {next(iter(found['objectives']))} alone"
    if rules := list(excesses(found["constraints"], {})):
        yield f"constraints: {', '.join(rules)}"
    if found["adapter_parameters"] is not None:
        fewest, most = found["adapter_parameters"]
        yield f"  adapters of this space have {fewest:,} to {most:,} parameters"


def diagnosis_lines(found: dict[str, Any]) -> Iterator[str]:
    diagnosis, updates = found["diagnosis"], found["updates"]
    if diagnosis is not None:
        yield f"diagnosis: {diagnosis['line']}"
        if diagnosis["findings"] > 1:
            yield f"  the worst of {diagnosis['findings']}, of the base configuration; see `mergenet diagnose`"
    if updates is not None:
        counts = [f"{counted(row)} with t_cycle {row['t_cycle']}" for row in updates]
        yield f"updates: an adapter gets {', '.join(counts)}"


def counted(row: dict[str, int]) -> str:
    fewest, most = row["fewest"], row["most"]
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def source_text(source: dict[str, Any]) -> str:
    if source["recorded"]:
        return f"trains once, {layers_text(len(source['layers']))} recorded; all trials replay it"
    return str(source["reason"])


def budget_text(budget: dict[str, Any]) -> str:
    limits = [f"{budget['hours']:g} hours"] if budget["hours"] is not None else []
    limits += [f"{budget['epochs']} epochs"] if budget["epochs"] is not None else []
    return f"the search begins no more trials after {' or '.join(limits)}" if limits else "none"


def disk_lines(disk: dict[str, int]) -> Iterator[str]:
    parts = {key.replace("_", " "): number for key, number in disk.items() if key != "free"}
    needed = sum(parts.values())
    listed = ", ".join(f"{size(number)} {part}" for part, number in parts.items())
    yield f"disk: {size(needed)} ({listed}); {size(disk['free'])} free"
    if needed > disk["free"]:
        yield "  warning: that is more than is free"


def memory_lines(memory: dict[str, int]) -> Iterator[str]:
    needed = memory["worker"] * memory["workers"] + memory["ray"]
    yield (
        f"memory: {size(memory['worker'])} a worker (measured: peak of the timed steps), {size(needed)} with "
        f"{memory['workers']} at a time and {size(memory['ray'])} for Ray and the driver; this machine has "
        f"{size(memory['machine'])}"
    )
    if "gpu_worker" in memory:
        yield f"  GPU: {size(memory['gpu_worker'])} a worker (measured: reserved by torch)"
    if needed > memory["machine"]:
        yield "  warning: that is more than there is; lower slots"


def statistics_lines(found: dict[str, Any]) -> Iterator[str]:
    seeds, level = found["seeds"], f"{100 * found['level']:g} %"
    if not seeds:
        yield "seeds: none confirm the best (confirm_seeds: 0), so no gain can be shown"
        return
    shows = "can be below" if found["can_show"] else "cannot be below"
    yield f"seeds: {seeds} pairs; the smallest two-sided sign-flip p is {smallest_p_text(seeds)}, {shows} {level}"
    if not found["can_show"]:
        yield "  warning: they can show nothing at that level; raise confirm_seeds to 6 or more"
    if found["gain_in_sd"] is None:
        return
    gain = f"{found['gain_in_sd']:.2f} standard deviations of a pair's difference"
    points = ", whose size is unknown: give --pair-sd"
    if found["gain_points"] is not None:
        points = f" = {found['gain_points']:.2f} points, if that deviation is {found['pair_sd_points']:g} points"
    yield f"  a gain of {gain}{points}, is found {100 * found['power']:g} times in 100 (t test, {level})"


def size(number: float) -> str:
    return f"{number / GIB:.1f} GiB" if number >= GIB else f"{number / MIB:.1f} MiB"


def duration(hours: float) -> str:
    minutes = hours * 60
    return f"{hours:.1f} hours" if hours >= 2 else f"{minutes:.1f} minutes"


def warm_lines(facts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """facts: of `WarmStart.facts`."""
    for found in facts:
        left_out = ", ".join(f"{number} {reason}" for reason, number in found["left_out"].items())
        yield (
            f"warm start: {found['complete'] + found['stopped']} trials of {found['sweep']} "
            f"({found['complete']} complete, {found['stopped']} stopped early)"
            + (f"; left out: {left_out}" if left_out else "")
        )
