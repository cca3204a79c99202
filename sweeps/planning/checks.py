"""The checks of a sweep before it creates anything, which make it a plan; every bad value is found here."""

import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from analysis.names import TRIALS_FOLDER
from analysis.trial_file import folders_in
from mergenet.config import Config
from mergenet.errors import CheckpointError, ConfigError, DataError, UserError
from mergenet.records.packages import PACKAGES, check_packages
from mergenet.records.provenance import config_hash
from mergenet.training.without_effect import without_effect
from sweeps.config import SweepConfig
from sweeps.config.base import load_base
from sweeps.execution.resources import check_executor
from sweeps.planning.never_transfers import check_transfers
from sweeps.planning.plan import Plan
from sweeps.space.checks import build_space, probes
from sweeps.space.space import Space
from sweeps.study.warm_start import read_warm_start
from sweeps.tracking.wandb_run import check_key
from sweeps.trials.objectives import check_constraints
from sweeps.trials.recorded_source import SourcePlan, pin_source, plan_source

TRIAL_NAME = re.compile(r"trial-(\d{3,})")


def plan_sweep(sweep: SweepConfig, elsewhere: bool = False, begun: bool = False) -> Plan:
    """Check the whole sweep: paths, values, device, layers, data, recording. Raises UserError; creates nothing.

    elsewhere: it will run on a cluster, so this machine need not have the device. begun: its base is the one in its
    folder, and it keeps all trials that are there.
    """
    from mergenet.tasks import built_once

    check_packages()
    check_folder_names()
    with built_once():
        return _planned(sweep, elsewhere, begun)


def check_for_cluster(sweep: SweepConfig, shared: bool) -> None:
    """What can be known here of a sweep for a cluster, whose data and keys may be there only. Raises UserError.

    shared: the cluster sees the files of this machine, so that recordings and earlier sweeps must be here, too.
    """
    from sweeps.space.layer_choices import with_layers, with_limits  # torch

    with suppress(DataError):
        if shared:
            away = sweep.wandb.model_copy(update={"mode": "disabled"})
            plan_sweep(sweep.model_copy(update={"wandb": away}), elsewhere=True)
        else:
            with_limits(with_layers(build_space(load_base(sweep), sweep.search)))


def _planned(sweep: SweepConfig, elsewhere: bool, begun: bool) -> Plan:
    from mergenet.transfer.recording import describe_source

    base = load_base(sweep)
    space = build_space(base, sweep.search)
    describe_source(base)
    from sweeps.samplers.compatibility import check_sampler, possible_trials
    from sweeps.space.adapter_size import check_size  # torch
    from sweeps.space.layer_choices import with_layers, with_limits
    from sweeps.study.storage import check_storage

    if not elsewhere:
        check_device(base)
    check_executor(sweep, space, None if elsewhere else num_gpus())
    space = with_limits(with_layers(space))
    check_sampler(sweep, space)
    check_storage(sweep.storage)
    sweep = with_metric(sweep, base)
    check_constraints(sweep)
    check_size(space, sweep.bounds)
    check_recording(space)
    check_key(sweep)
    space = Space(pin_source(space.base), space.entries, space.limits)
    at_start = [] if begun else [*check_grace(sweep, base.epochs), *check_generations(sweep, base.epochs)]
    at_start += [] if begun else check_base(space)
    warnings = (*check_transfers(space, begun), *at_start)
    asked = sweep.num_trials
    held = max(possible_trials(sweep, space), num_begun(Path(sweep.base).parent) if begun else 0)
    sweep = sweep.model_copy(update={"num_trials": min(asked, held)})
    source = plan_source(space)
    check_recorded_size(space, source)
    data, warm = counted_data(space.config({})), read_warm_start(sweep, space)
    return Plan(sweep, space, source, config_hash(base), asked, warm, data, warnings)


def num_begun(folder: Path) -> int:
    """How many trials the sweep in a folder has drawn, by the last that is there."""
    names = [TRIAL_NAME.fullmatch(run.name) for run in folders_in(folder / TRIALS_FOLDER)]
    return max((int(name[1]) + 1 for name in names if name is not None), default=0)


def counted_data(base: Config) -> dict[str, dict[str, Any]]:
    """What the networks of a configuration learn from, by role. A source that is replayed learns from nothing.

    Without those that cannot be built: trials may all have other data.
    """
    from mergenet.tasks import contents, similar_task

    networks = {"target": base.target}
    if base.method != "none" and base.source.kind not in ("self", "recorded"):
        networks["source"] = base.source
    found = {}
    for role, network in networks.items():
        with suppress(UserError):
            found[role] = contents(similar_task(network), network)
    return found


def check_pair_sd(points: float | None) -> None:
    """Raises ConfigError unless it is None or can be the standard deviation of a gain."""
    if points is not None and not 0 < points < math.inf:
        raise ConfigError(f"pair_sd must be a finite number of points above 0, got {points!r}")


def check_folder_names() -> None:
    """Raises ConfigError if workers, which search the current folder first, would import other modules than ours."""
    for name, file in PACKAGES.items():
        package = Path(name)
        other = (package / "__init__.py").is_file() and not (package / file).is_file()  # a checkout of ours is none
        if other or package.with_suffix(".py").is_file():
            got = f"{name}/" if other else f"{name}.py"
            raise ConfigError(
                f"the current folder must hold no module named {name}, which Ray's workers would import in place of "
                f"mergenet's own, got {got}; rename it, or start from another folder"
            )


def num_gpus() -> int:
    """GPUs of this machine. Counting them does not start CUDA."""
    import torch

    return torch.cuda.device_count()


def check_device(base: Config) -> None:
    """The device must be there. `auto` always is, and asking for it would start CUDA in this process."""
    from mergenet.learner.distributed import resolve_device

    if base.device != "auto":
        resolve_device(base.device)


def with_metric(sweep: SweepConfig, base: Config) -> SweepConfig:
    """The sweep with the metric that selects a run's best epoch: the best of another metric has other weights."""
    from mergenet.tasks import similar_task

    own = f"target_val_{similar_task(base.target).metric}"
    if sweep.metric not in (None, own):
        raise ConfigError(
            f"metric must be {own}, by which each run selects its best epoch, got {sweep.metric!r}; "
            f"write metric: {own} or leave it out"
        )
    return sweep.model_copy(update={"metric": own})


def check_grace(sweep: SweepConfig, epochs: int) -> list[str]:
    """A line on a grace period that nobody has set, where it is less than a tenth of the training."""
    grace = sweep.grace_epochs
    if "grace_epochs" in sweep.model_fields_set or sweep.scheduler == "none" or grace == "auto" or 10 * grace >= epochs:
        return []
    return [
        f"grace_epochs is {grace} of {epochs} epochs, because it is not set: what starts slowly is stopped even if it "
        f"would end best; grace_epochs: {epochs // 4} is what `mergenet sweep init` writes, auto measures it"
    ]


def check_base(space: Space) -> list[str]:
    """Lines on what is set in the base and does nothing, unless the search changes that."""
    searched = {name for path in space.entries for name in space.names(path)}
    return [line for line, decides in without_effect(space.config({})).items() if decides not in searched]


def check_generations(sweep: SweepConfig, epochs: int) -> list[str]:
    """A line on nsga2 where trials are stopped early. cmaes counts these, too, by how far they got."""
    grace = sweep.grace_epochs
    if sweep.sampler != "nsga2" or sweep.scheduler == "none" or (grace != "auto" and grace >= epochs):
        return []
    return [
        f"sampler nsga2 counts in its generations only trials that train to their end, and scheduler {sweep.scheduler} "
        "stops most before: most draws are random; write scheduler: none, or use another sampler"
    ]


def check_recording(space: Space) -> None:
    """Raises ConfigError unless the base and all values of the search can replay the recording that is set."""
    steps: dict[str, int] = {}
    check_replay(space.config({}), steps)
    for labels in probes(space):
        try:
            check_replay(space.config(labels), steps)
        except UserError as error:
            drawn = ", ".join(f"{path}={label}" for path, label in labels.items())
            raise type(error)(f"{error} (with {drawn})") from None


def check_recorded_size(space: Space, source: SourcePlan) -> None:
    """Raises ConfigError if the recording that the sweep is to make would be larger than source.max_gib."""
    base = space.config({})
    if base.source.max_gib is None or not source.record:
        return
    from mergenet.layers.spaces import network_key
    from mergenet.learner.learner import steps_per_epoch
    from mergenet.transfer.recording import check_room
    from sweeps.space.layer_choices import network_layers

    layers = network_layers(network_key(base.source))
    numbers = sum(layers[name].parameters for name in source.layers)
    check_room(base.source, numbers, source.every, steps_per_epoch(base) * base.epochs)


def check_replay(config: Config, steps: dict[str, int]) -> None:
    """steps: cache of optimizer steps per epoch by target, filled here; counting them reads the data."""
    if config.source.kind != "recorded":
        return
    from mergenet.learner.learner import steps_per_epoch
    from mergenet.transfer.recording import Recording

    assert config.source.recording is not None
    try:
        recording = Recording.open(Path(config.source.recording))
    except CheckpointError as error:
        raise ConfigError(str(error)) from None
    target = config.target.model_dump_json(include={"task", "data", "batch_size"})
    if target not in steps:
        steps[target] = steps_per_epoch(config)
    recording.check(config, steps[target] * config.epochs)
