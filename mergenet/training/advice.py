"""Advice from a diagnosis: rules, worst first, each a line that names the setting to change. [ours]

A rule looks at the facts of diagnose.py, and at those of one link, and says what is wrong with it or nothing.
Thresholds are where transfers were found to stop being useful, or where the text of a rule stops being true; none is
sharp.
"""

from collections.abc import Callable
from typing import Any

FEW = 0.5  # an adapter that cannot move by this share of its size is said to learn too little
MIN_R2 = 0.2  # below it the map leaves four fifths of the variance unexplained
MIN_WORDS = 0.5  # below it most of the target's words are shown as zeros
MIN_SHOWN = 1 / 3  # the best bases showed 33 % and more of the weights whose transfer gained
MIN_WRITTEN = 0.2  # below it even an answer with gate 1 leaves four fifths of the weight unchanged

NOTHING = "nothing stands in the way"

Facts = dict[str, Any]
Said = tuple[float, str]  # how bad, lower is worse among the links of one rule; what is wrong, and the way out
Rule = Callable[[Facts, Facts], Said | None]


def findings(facts: Facts) -> list[Facts]:
    """The rules that apply, worst first: each with its links and one line about the worst of them."""
    found = []
    for name, rule in RULES.items():
        said = {link["name"]: text for link in facts["links"] if (text := rule(facts, link)) is not None}
        if said:
            links = sorted(said, key=lambda link: said[link][0])  # stable: in the order of the pairs
            about = prefix(links, len({text for _, text in said.values()}) > 1, len(facts["links"]))
            found.append({"rule": name, "links": list(said), "line": about + said[links[0]][1]})
    return found


def prefix(links: list[str], differ: bool, num_links: int) -> str:
    """Which links a line is about, the worst first; empty if it applies to all alike."""
    if differ:
        return f"{links[0]}, the worst of {len(links)}: "
    return "" if len(links) == num_links else f"{', '.join(links)}: "


def lines(found: list[Facts]) -> list[str]:
    """found: what `findings` returned."""
    return [finding["line"] for finding in found] or [NOTHING]


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1f} %"


def now(link: Facts, what: str) -> Any:
    """A link's facts after the steps, if any were taken."""
    return link.get("learned", link)[what]


# ---------------------------------------------------------------- rules


def control(facts: Facts, _: Facts) -> Said | None:
    if facts["control"] == "real":
        return None
    text = (
        f"transfer.control is {facts['control']}: the adapter is not shown the source, so that nothing can come of it; "
        "set transfer.control: real unless this run is the control"
    )
    return 0.0, text


def random_source(facts: Facts, link: Facts) -> Said | None:
    source = facts["networks"]["source"]
    if link["gives"] != "source" or not link["random"]:
        return None
    if source["pretrained"]:
        return 0.0, (
            f"{link['giver']} of the frozen source stays random, because source.model.weights has no such layer, or "
            "one of another shape: it has nothing to give; name another layer in transfer.pairs"
        )
    text = "the source is frozen with random weights and has nothing to give"
    return 0.0, f"{text}; set source.model.weights, or source.kind: live"


def no_transfer(_: Facts, link: Facts) -> Said | None:
    if link["updates"]:
        return None
    text = (
        f"no transfer falls into the run; lower transfer.t_cycle (this pair's is {link['every']}) or "
        "transfer.start_step, or raise transfer.stop_fraction or epochs"
    )
    return 0.0, text


def no_meaning(_: Facts, link: Facts) -> Said | None:
    if link["adapter"] != "linear" or link["align"]["how"] != "numbers only":
        return None
    text = (
        "the layers share no space, so that adapter.kind linear starts from numbers that mean nothing to each other; "
        "set transfer.align: inputs or outputs, name layers that share a space in transfer.pairs, or set "
        "transfer.adapter.kind: lpka"
    )
    return 0.0, text


def worse_source(facts: Facts, link: Facts) -> Said | None:
    source, target = facts["networks"]["source"], facts["networks"]["target"]
    value, own = source.get("value"), target.get("value")
    if link["gives"] != "source" or value is None or own is None or value > own:
        return None
    text = (
        f"the source's validation {source['metric']} ({percent(value)}) is no better than the target's before it "
        f"learns ({percent(own)}); set source.model.weights to a network that solves the task, or source.kind: live"
    )
    return 0.0, text


def random_part(facts: Facts, link: Facts) -> Said | None:
    if not link["giver_learns"] or link["follows"] or link["shown"]["rank"] is None:
        return None
    seen, way_out = now(link, "shown"), "set transfer.adapter.source_basis: current"
    if seen["change"] is None:
        start = f"transfer.adapter.source_basis is start and the {link['gives']} learns"
        return 0.0, f"{start}: a random part of what it learns is shown; {way_out}"
    text = (
        f"a random part of what the {link['gives']} learns is shown, {percent(seen['change'])} of its change in "
        f"{facts['steps']} steps, where rank {seen['rank']} could show {percent(seen['best_change'])}; {way_out}"
    )
    return seen["change"], text


def stiff(_: Facts, link: Facts) -> Said | None:
    """Does not apply to adapters that start as the identity or from an earlier run."""
    if link["adapter"] == "linear" or link["init"] is not None or not 0 < link["reach"] < FEW:
        return None
    text = (
        f"the adapter gets {link['updates']} updates, which can move its random weights by {percent(link['reach'])} "
        f"of their size at most; lower transfer.t_cycle ({link['every']}), raise transfer.update.lr, or set "
        "transfer.adapter.kind: linear where the layers share a space"
    )
    return link["reach"], text


def poor_map(_: Facts, link: Facts) -> Said | None:
    align = now(link, "align")
    if align["r2"] is None or align["r2"] >= MIN_R2:
        return None
    text = (
        f"the map between the {align['space']} of the two layers is a poor one, R^2 {align['r2']:.2f}: what is shown "
        "means something else there; name layers that share a space in transfer.pairs, or set transfer.align: none"
    )
    return align["r2"], text


def few_words(_: Facts, link: Facts) -> Said | None:
    words = link["align"]["words"]
    if words is None or words >= MIN_WORDS:
        return None
    text = (
        f"the {link['gives']} knows {percent(words)} of the {link['receives']}'s words and shows nothing of the "
        "others; set source.data.tokenizer and target.data.tokenizer to vocabularies that have more in common"
    )
    return words, text


def little_shown(facts: Facts, link: Facts) -> Said | None:
    """Of what the giver learned, or of a weight that was learned elsewhere. A random weight has no best part."""
    seen, what = now(link, "shown"), f"what the {link['gives']} learned in {facts['steps']} steps"
    best = seen["best_change"]
    if not link["giver_learns"] or (best is None and facts["networks"][link["gives"]]["pretrained"]):
        best, what = seen["best"], f"the {link['gives']}'s weight"
    if best is None or best >= MIN_SHOWN:
        return None
    half = f" ({seen['rank_wanted']} can show half of the weight, {seen['largest_rank']} is the largest)"
    return best, f"rank {seen['rank']} can show {percent(best)} of {what} at best; raise transfer.adapter.rank{half}"


def little_written(facts: Facts, link: Facts) -> Said | None:
    found, what = now(link, "written"), f"what the {link['receives']} learned in {facts['steps']} steps"
    part = found["change"]
    if part is None and facts["networks"][link["receives"]]["pretrained"]:
        part, what = found["share"], f"the {link['receives']}'s weight"
    if part is None or part >= MIN_WRITTEN:
        return None
    text = (
        f"a transfer can write {percent(part)} of {what}; raise transfer.adapter.rank, or set transfer.adapter.kind: "
        "linear where the layers share a space, which writes all"
    )
    return part, text


def no_space(_: Facts, link: Facts) -> Said | None:
    """For `linear` see `no_meaning`."""
    if link["adapter"] == "linear" or link["align"]["how"] != "numbers only":
        return None
    text = (
        "the layers share no space, so that their rows meet as numbers only and the adapter has to learn what they "
        "mean to each other; name layers that share one in transfer.pairs, or set transfer.align: inputs or outputs"
    )
    return 0.0, text


def no_more_data(facts: Facts, link: Facts) -> Said | None:
    """For networks that both learn. If they teach each other, one always has more data: only the source is checked."""
    both = {other["gives"] for other in facts["links"]} == {"source", "target"}
    giver, receiver = (facts["networks"][link[end]] for end in ("gives", "receives"))
    if (both and link["gives"] == "target") or facts["networks"]["source"]["kind"] == "self" or giver["pretrained"]:
        return None
    if giver["seen"] is None or giver["seen"] > receiver["seen"]:
        return None
    text = (
        f"the {link['gives']} learns from {giver['seen']:,} examples, the {link['receives']} from "
        f"{receiver['seen']:,}: what it knows more it owes to its size alone; set {link['gives']}.data to more of "
        f"them, or {link['gives']}.model.weights"
    )
    return 0.0, text


RULES: dict[str, Rule] = {
    "control": control,
    "random_source": random_source,
    "no_transfer": no_transfer,
    "no_meaning": no_meaning,
    "worse_source": worse_source,
    "random_part": random_part,
    "stiff": stiff,
    "poor_map": poor_map,
    "few_words": few_words,
    "little_shown": little_shown,
    "little_written": little_written,
    "no_space": no_space,
    "no_more_data": no_more_data,
}
