"""Does transfer with default settings cost the target accuracy? Paired seeds with and without it, one recipe.

Variants are trained beside `baseline` (the target by itself): with `real` the adapter sees the source, with the
controls `shuffled`, `noise` and `none` it does not. A seed's source is recorded once and replayed in all of its
variants; `live` trains it beside the target instead, to check that the replay is bitwise the same.
"""

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import common, paired_runs
from benchmarks.paired import compare_all, families, report
from benchmarks.paired_runs import WITHOUT, Setting
from mergenet.errors import ConfigError, unknown_name

NAME = "no_harm"
PRESET = "openmoji"
BASELINE = "baseline"
VARIANTS = {
    BASELINE: WITHOUT,
    "real": ("transfer.control=real",),
    "shuffled": ("transfer.control=shuffled",),
    "noise": ("transfer.control=noise",),
    "none": ("transfer.control=none",),
    "live": ("transfer.control=real",),
}
CONTROLS = ("shuffled", "noise", "none")  # `real` is compared with these too: is it the source that helps?


def parse(arguments: Sequence[str]) -> tuple[Any, Setting]:
    """Options, and the variants, baseline first. Raises ConfigError for an unknown variant."""
    parser = paired_runs.parser(NAME, "A target with transfer against none, default settings, paired seeds.")
    parser.add_argument("--variants", default="real", help=f"of {', '.join(VARIANTS)}; separated by commas")
    options = parser.parse_args(arguments)
    names = paired_runs.names_of(f"{BASELINE},{options.variants}")
    for name in names:
        if name not in VARIANTS:
            raise ConfigError(unknown_name("--variants", name, VARIANTS))
    return options, Setting(PRESET, {name: VARIANTS[name] for name in names}, tuple(options.set), live=("live",))


def bitwise(rows: list[dict[str, Any]]) -> str:
    """Whether the replayed source gave bitwise the same as the live one."""
    weights = {(row["variant"], row["seed"]): row["weights"] for row in rows}
    same = all(weights["real", row["seed"]] == weights["live", row["seed"]] for row in rows)
    return f"replayed source against live source: weights {'bitwise equal' if same else 'DIFFER'}"


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    with paired_runs.errors_told():
        options, setting = parse(arguments)
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        facts = common.machine(setting.config(BASELINE, seeds[0])) | {"jobs": options.jobs}
        common.header(NAME, arguments, facts)
        rows = paired_runs.run(setting, seeds, options.out, options.jobs)
    variants = list(setting.variants)
    comparisons = compare_all(rows, families(variants, "real", [name for name in CONTROLS if name in variants]))
    report(rows, variants, comparisons)
    if {"real", "live"} <= set(variants):
        print(bitwise(rows))
    if options.json:
        common.footer(NAME, facts, seeds, {"runs": rows, "comparisons": comparisons})


if __name__ == "__main__":
    main()
