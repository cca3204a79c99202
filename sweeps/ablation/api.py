"""The Python API of ablations, for scripts and notebooks; the command line uses it as well.

from sweeps import Ablation
result = Ablation.load("sweep-results/quickstart", components=True, seeds=8).run("results/ablation")
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sweeps.ablation.centre import Centre, factors, load_centre, mirror_of
from sweeps.ablation.folder import adjusted, check_copy, check_free, is_this, read_variants
from sweeps.ablation.results.result import AblationResult
from sweeps.ablation.schema import AblationConfig, parse_ablation
from sweeps.ablation.variants import LeftOut, Variant, build_variants
from sweeps.driver.api import left_as_found, told
from sweeps.driver.start import check_cluster
from sweeps.execution.ray_cluster import check_address
from sweeps.planning.inputs import check_sweep_unchanged
from sweeps.tracking.remote_copy import check_url
from sweeps.trials.sweep_dir import check_deletable, holds_ablation

if TYPE_CHECKING:
    from rich.console import Console

    from sweeps.ablation.plan import AblationPlan

Say = Callable[[str], None]


class Ablation:
    """One factor at a time around a configuration, and the components of the method, each with the same seeds."""

    def __init__(
        self, centre: Centre, config: AblationConfig, variants: Sequence[Variant], left_out: Sequence[LeftOut] = ()
    ) -> None:
        """variants: the first is that to which the others are compared. `load` and `best_of` make all of it."""
        self.centre, self.config = centre, config
        self.variants, self.left_out = list(variants), list(left_out)

    @classmethod
    def load(
        cls,
        what: str | Path,
        *,
        factors_of: Iterable[str] = (),
        values: Mapping[str, Sequence[Any]] | None = None,
        components: bool | None = None,
        interactions: Iterable[tuple[str, str]] = (),
        changes: Sequence[str] = (),
        **settings: Any,
    ) -> Self:
        """what: a sweep folder, whose best trial is the centre; a YAML file or a preset.

        factors_of: paths whose values are found: what the sweep could draw, else neighbours of the centre's.
        values: path -> values. components: also each component of the method. Where neither factors nor components are
        asked for, it is all components and what the sweep searched. interactions: pairs of factors that are also
        changed together. changes: of the centre, `a.b=c`. settings: further keys of `AblationConfig`, as seeds=16; of
        wandb, {"mode": "offline"}, what is not given is as in the sweep.
        Raises ConfigError, one line a problem.
        """
        centre = load_centre(str(what), changes)
        pairs = [tuple(pair) for pair in interactions]
        names = [*factors_of, *(path for pair in pairs for path in pair if path not in (values or {}))]
        everything = not names and not values and components is None
        found = factors(centre, names, values or {}, everything)
        own = [] if centre.sweep is None else [str(centre.sweep)]
        settings["wandb"] = mirror_of(centre, settings.get("wandb"))
        keys: dict[str, Any] = {
            "name": centre.name,
            "values": {path: list(listed) for path, listed in found.items()},
            "components": everything if components is None else components,
            "interactions": [list(pair) for pair in pairs],
        }
        reuse = [str(Path(folder).absolute()) for folder in settings.pop("reuse", ())]
        config = parse_ablation({**keys, **settings, "reuse": [*own, *reuse]}, "the ablation")
        return cls(centre, config, *build_variants(centre.config, config))

    @classmethod
    def best_of(
        cls, folder: str | Path, top: int = 3, seeds: int = 8, trials: Sequence[str] = (), **settings: Any
    ) -> Self:
        """The best trials of a sweep beside no transfer, on fresh seeds, before one is named: see `rejects`.

        seeds: that choose; as many more tell the gain of the one that is named. Of a single trial, which needs no
        choice, all of them tell its gain. trials: names, in the place of the best; they may have been stopped early,
        and train in full. settings: as for `load`.
        """
        from sweeps.ablation.best_of import best_trials  # torch

        centre, variants, left_out = best_trials(Path(folder), top, trials)
        reuse = [str(centre.sweep), *(str(Path(one).absolute()) for one in settings.pop("reuse", ()))]
        settings["wandb"] = mirror_of(centre, settings.get("wandb"))
        keys = {"name": centre.name, "top": len(variants) - 1, "seeds": seeds, **settings, "reuse": reuse}
        return cls(centre, parse_ablation(keys, "the confirmation"), variants, left_out)

    def plan(
        self, folder: str | Path | None = None, pair_sd: float | None = None, say: Say | None = None
    ) -> dict[str, Any]:
        """What it will cost and can show: the facts of `mergenet sweep ablate --dry-run --json`. Creates nothing.

        folder: the planned one. pair_sd: standard deviation of a paired difference, in points. say: called with a line,
        as print, before each variant is tried out, which takes seconds.
        """
        place = self._folder(folder)
        return self._estimated(place, pair_sd, say=say)[1]

    def run(
        self,
        folder: str | Path | None = None,
        *,
        overwrite: bool = False,
        retry_failed: bool = False,
        address: str | None = None,
        copy_to: str | None = None,
        progress: bool = True,
        quiet: bool = False,
        pair_sd: float | None = None,
    ) -> AblationResult:
        """Begin in a folder, go on with it if it was stopped or killed or has fewer seeds, or only read the result.

        Arguments and errors as `Sweep.run`; pair_sd as `plan`, which is printed first. One that goes on is copied to
        where it was from the start.
        """
        place = self._folder(folder)
        from sweeps.report.console import lasting_console

        console = lasting_console(progress, quiet)
        with told(place), left_as_found():
            if not overwrite and self._is_in(place):
                check_copy(place, copy_to)
                go_on(place, console, _adjustable(self.config), address, retry_failed)
            else:
                self._begin(place, console, overwrite, address, copy_to, pair_sd)
        return AblationResult.load(place)

    def _begin(
        self,
        folder: Path,
        console: "Console",
        overwrite: bool,
        address: str | None,
        copy_to: str | None,
        pair_sd: float | None,
    ) -> None:
        from sweeps.ablation.results.text import plan_lines
        from sweeps.ablation.run import run_ablation
        from sweeps.report.live import say

        check_address(address)
        if copy_to is not None:
            check_url(copy_to)
        (check_deletable if overwrite else check_free)(folder)
        check_cluster(address)
        plan, found = self._estimated(folder, pair_sd, address is not None, partial(say, console))
        for line in plan_lines(found, begun=True):
            say(console, line)
        run_ablation(plan, folder, console, overwrite, address, copy_to)

    def _estimated(
        self, folder: Path, pair_sd: float | None, elsewhere: bool = False, say: Say | None = None
    ) -> tuple["AblationPlan", dict[str, Any]]:
        """The plan of the variants that can train, each tried out for a few steps; and its numbers."""
        from sweeps.ablation.plan import check_reference, estimate, plan_ablation, tried  # torch
        from sweeps.ablation.reuse import check_reusable, find_runs
        from sweeps.planning.checks import check_pair_sd

        check_pair_sd(pair_sd)
        check_reusable(map(Path, self.config.reuse))  # before each variant is tried out, which takes its time
        variants, left_out = self.variants, self.left_out
        check_reference(variants)
        plan_ablation(self.config, variants, left_out, elsewhere)  # the settings, before anything is built
        if say is not None:
            say(f"trying a few steps of each of {len(variants)} variants ...")
        measured, cannot = tried(variants, self.config.slots)
        fit = [one for one in variants if one.name in measured]
        check_reference(fit)
        plan = plan_ablation(self.config, fit, [*left_out, *cannot], elsewhere)
        jobs = [job for found in plan.jobs(folder.absolute()).values() for job in found]
        reused = find_runs(jobs, [Path(one) for one in self.config.reuse])
        return plan, estimate(plan, measured, folder, list(reused.runs), pair_sd or self.centre.pair_sd(plan.metric))

    def _is_in(self, folder: Path) -> bool:
        return holds_ablation(folder) and is_this(folder, self.config, self.variants)

    def _folder(self, folder: str | Path | None) -> Path:
        return Path("sweep-results") / self.config.name if folder is None else Path(folder)

    def __repr__(self) -> str:
        return (
            f"Ablation({self.config.name!r}, factors={list(self.config.values)}, components={self.config.components})"
        )


def go_on(
    folder: Path,
    console: "Console",
    changes: dict[str, Any] | None = None,
    address: str | None = None,
    retry: bool = False,
) -> None:
    """Go on with the ablation in a folder. changes: other seeds, slots and the like. Only the table is written again
    if nothing is left to train.

    Raises as `run_sweep`, and CheckpointError if data or code have changed since it began.
    """
    from sweeps.ablation.plan import plan_ablation  # torch
    from sweeps.ablation.run import resume_ablation

    check_address(address)
    ablation = adjusted(folder, changes or {})
    variants, left_out = read_variants(folder)
    check_cluster(address)
    plan = plan_ablation(ablation, variants, left_out, address is not None)
    check_sweep_unchanged(folder, variants[0].checked, plan.as_sweep.sweep.search, fixed=retry)
    resume_ablation(plan, folder, console, address, retry)


def _adjustable(config: AblationConfig) -> dict[str, Any]:
    from sweeps.ablation.schema import ADJUSTABLE

    return config.model_dump(mode="json", include=set(ADJUSTABLE))
