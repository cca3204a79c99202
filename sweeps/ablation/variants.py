"""The variants of an ablation: the centre, and each change to it as a whole, checked configuration.

A change that leaves the centre as it is, or trains the same as another variant, is dropped; one that the rules of a
configuration forbid is left out. Both are said, with the reason.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mergenet.config import Config
from mergenet.config.choices import KINDS, PUBLISHED, unused_settings
from mergenet.config.loading import parse_config, set_by_path
from mergenet.errors import ConfigError, UserError
from sweeps.ablation.components import Proposal, components
from sweeps.ablation.schema import AblationConfig
from sweeps.report.wording import show_value
from sweeps.space.space import value_at

CENTRE = "centre"
ORIGIN = "the ablation"
DAMAGED = "put it back, or begin anew with overwrite=True (--overwrite), which deletes what is there"


@dataclass(frozen=True)
class Variant:
    """name: of its run folders. label: for tables. changes: dotted path -> value. config: whole, plain values.

    search_value: of a trial of a sweep, by which it was among the best. stopped_after: of one that was stopped early
    in its search, the epochs of which that value is the best.
    """

    name: str
    label: str
    changes: dict[str, Any]
    config: dict[str, Any]
    search_value: float | None = None
    stopped_after: int | None = None

    @property
    def checked(self) -> Config:
        return Config.model_validate(self.config)


@dataclass(frozen=True)
class LeftOut:
    """label: what was proposed. reason: why it is no variant, one line."""

    label: str
    reason: str


def build_variants(centre: Config, ablation: AblationConfig) -> tuple[list[Variant], list[LeftOut]]:
    """The centre first. centre: its pairs written out, its seed the first of the ablation's, that of the source pinned.

    Raises ConfigError if a path is not one that can be varied.
    """
    found = [Variant(CENTRE, CENTRE, {}, centre.model_dump(mode="json"))]
    keys = {training_key(centre): CENTRE}
    left_out: list[LeftOut] = []
    for proposal in proposals(centre, ablation):
        config, reason = applied(centre, proposal)
        key = "" if config is None else training_key(config)
        if config is None or key in keys:
            same = "it is the centre" if keys.get(key) == CENTRE else f"it trains the same as {keys.get(key)}"
            left_out.append(LeftOut(proposal.label, reason or same))
            continue
        keys[key] = proposal.label
        name = folder_name(proposal.label, {variant.name for variant in found})
        found.append(Variant(name, proposal.label, proposal.changes, config.model_dump(mode="json")))
    return found, left_out


def proposals(centre: Config, ablation: AblationConfig) -> Iterator[Proposal]:
    """Components, then each value of each factor, then each combination of two factors."""
    if ablation.components:
        yield from components(centre)
    titles = short_titles(ablation.values)

    def proposal(changes: dict[str, Any]) -> Proposal:
        return Proposal(", ".join(f"{titles[path]} {show_value(value)}" for path, value in changes.items()), changes)

    for path, values in ablation.values.items():
        yield from [proposal({path: value}) for value in values]
    for pair in ablation.interactions:
        own = [value_at(centre.model_dump(mode="json"), path) for path in pair]
        for values in itertools.product(*(ablation.values[path] for path in pair)):
            if all(value != centre_value for value, centre_value in zip(values, own, strict=True)):
                yield proposal(dict(zip(pair, values, strict=True)))


def short_titles(paths: Iterable[str]) -> dict[str, str]:
    """Each path's shortest ending that no other one shares."""
    from analysis.tables.formatting import headers  # pandas

    paths = list(paths)
    return dict(zip(paths, headers(paths, paths), strict=True))


def applied(centre: Config, proposal: Proposal) -> tuple[Config | None, str]:
    """The centre with the changes; else why there is none."""
    if proposal.reason:
        return None, proposal.reason
    values = json.loads(centre.model_dump_json())
    try:
        for path, value in proposal.changes.items():
            set_by_path(values, path, json.loads(json.dumps(value)))
        return parse_config(values, ORIGIN), ""
    except ConfigError as error:
        return None, one_line(error)


def one_line(error: UserError) -> str:
    return " ".join(str(error).replace(f" (in {ORIGIN})", "").split())


def training_key(config: Config) -> str:
    """Equal for configurations that train the same: settings that the method does not use are left out."""
    from mergenet.transfer.adapter import pairings_of  # torch

    values = config.model_dump(mode="json", exclude={"name"})
    for section in unused_settings(config.method):
        del values[section.removesuffix(".")]
    if config.method in PUBLISHED:
        values["distillation"] = config.distillation.resolved(config.method)
    if config.method == "mergenet":
        adapter = values["transfer"]["adapter"]
        adapter["pairings"] = list(pairings_of(config.transfer.adapter))
        if KINDS[config.transfer.adapter.kind].shows_whole:
            del adapter["rank"]
    return json.dumps(values, sort_keys=True)


def folder_name(label: str, taken: set[str]) -> str:
    """The label as the name of a run and its folder, of letters, digits and ._-, and none of those that are taken."""
    plain = re.sub(r"[^A-Za-z0-9._]+", "-", label).strip("-._")[:60].replace("-seed-", "-seed.") or "variant"
    names = itertools.chain([plain], (f"{plain}.{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


def as_record(variants: Iterable[Variant], left_out: Iterable[LeftOut]) -> dict[str, Any]:
    """For variants.json."""
    return {"variants": [vars(variant) for variant in variants], "left_out": [vars(one) for one in left_out]}


def from_record(values: Mapping[str, Any], place: object) -> tuple[list[Variant], list[LeftOut]]:
    """The inverse. Raises ConfigError if the record is damaged."""
    try:
        variants = [Variant(**one) for one in values["variants"]]
        left_out = [LeftOut(**one) for one in values["left_out"]]
        for variant in variants:
            parse_config(variant.config, str(place))
        variants[0]
    except (KeyError, TypeError, IndexError, ConfigError) as error:
        raise ConfigError(
            f"{place} must hold the variants of the ablation, got {type(error).__name__} reading it; the file is "
            f"damaged, {DAMAGED}"
        ) from None
    return variants, left_out
