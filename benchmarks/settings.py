"""What does transfer gain in a setting, against no transfer, against controls and against distillation?

    python -m benchmarks.settings self --variants none,mergenet,shuffled,noise,control_none,kd --seeds 6 --json

Any preset or YAML file; every variant with the same seeds and recipe. `none` is the target by itself; where the pairs
also give to the source, it is both networks by themselves (transfer.stop_fraction 0), and both are compared. Any method
of the configuration is a variant; one that the setting does not allow is named and left out.
"""

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import common, paired_runs
from benchmarks.paired import compare_all, families, report
from benchmarks.paired_runs import RECIPE, WITHOUT, Setting
from mergenet.config.choices import PUBLISHED
from mergenet.config.loading import load_config
from mergenet.errors import ConfigError, unknown_name
from mergenet.training.trainer import Trainer
from mergenet.transfer.pairs import resolve_pairs

NAME = "settings"
BASELINE, MERGENET = "none", "mergenet"
TRANSFER = {
    MERGENET: ("method=mergenet", "transfer.control=real"),
    "shuffled": ("method=mergenet", "transfer.control=shuffled"),
    "noise": ("method=mergenet", "transfer.control=noise"),
    "control_none": ("method=mergenet", "transfer.control=none"),
}
BOTH_ALONE = ("method=mergenet", "transfer.stop_fraction=0")
METHODS = list(PUBLISHED)


def parse(arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """Options, and the names of the variants, baseline first. Raises ConfigError for an unknown variant."""
    known = [BASELINE, *TRANSFER, *METHODS]
    parser = paired_runs.parser(NAME, "A setting with transfer against none, controls and other methods, paired seeds.")
    parser.add_argument("preset", metavar="CONFIG", help="a preset of `mergenet train` or a YAML file")
    parser.add_argument("--variants", default=MERGENET, help=f"of {', '.join(known)}; separated by commas")
    options = parser.parse_args(arguments)
    names = paired_runs.names_of(f"{BASELINE},{options.variants}")
    for name in names:
        if name not in known:
            raise ConfigError(unknown_name("--variants", name, known))
    return options, names


def overrides_of(variant: str, source_receives: bool) -> tuple[str, ...]:
    if variant == BASELINE:
        return BOTH_ALONE if source_receives else WITHOUT
    return TRANSFER.get(variant, (f"method={variant}",))


def source_receives(preset: str, overrides: Sequence[str]) -> bool:
    config = resolve_pairs(load_config(preset, [*RECIPE, *overrides, *TRANSFER[MERGENET]]))
    return any(pair.direction != "to_target" for pair in config.transfer.written_pairs)


def refusal(setting: Setting, variant: str, seed: int) -> str:
    """Why another method cannot be used in the setting; empty if it can. Trains nothing."""
    if variant not in METHODS:
        return ""
    try:
        Trainer(setting.config(variant, seed))
    except ConfigError as error:
        return str(error).splitlines()[0]
    return ""


def applicable(options: Any, names: Sequence[str]) -> tuple[Setting, dict[str, str]]:
    """The setting with the variants that it allows, and why not the others."""
    both = source_receives(options.preset, options.set)
    whole = Setting(options.preset, {name: overrides_of(name, both) for name in names}, tuple(options.set))
    found = {name: refusal(whole, name, options.first_seed) for name in names}
    kept = {name: overrides for name, overrides in whole.variants.items() if not found[name]}
    return Setting(whole.preset, kept, whole.overrides), {name: why for name, why in found.items() if why}


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    with paired_runs.errors_told():
        options, names = parse(arguments)
        setting, refused = applicable(options, names)
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        facts = common.machine(setting.config(BASELINE, seeds[0])) | {"jobs": options.jobs}
        common.header(NAME, arguments, facts)
        print(f"{options.preset}, seeds {seeds[0]} to {seeds[-1]}", flush=True)
        for name, reason in refused.items():
            print(f"{name} does not apply: {reason}", flush=True)
        rows = paired_runs.run(setting, seeds, options.out, options.jobs)
    variants = list(setting.variants)
    comparisons = compare_all(rows, families(variants, MERGENET, variants[1:]))
    report(rows, variants, comparisons)
    if options.json:
        figures = {"setting": options.preset, "runs": rows, "comparisons": comparisons, "does_not_apply": refused}
        common.footer(NAME, facts, seeds, figures)


if __name__ == "__main__":
    main()
