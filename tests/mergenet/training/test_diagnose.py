"""`mergenet diagnose`: numbers against independent formulas, each rule where it fires and where not; the command."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from rich.console import Console

from mergenet.cli.diagnose_text import show_diagnosis
from mergenet.cli.main import cli
from mergenet.config import Config
from mergenet.config.loading import dump_yaml
from mergenet.errors import ConfigError
from mergenet.export.evaluate import evaluate_run
from mergenet.layers.matrices import find_layer
from mergenet.layers.spaces import vocabulary
from mergenet.training.advice import NOTHING, RULES, findings, lines
from mergenet.training.diagnose import best_shares, diagnose, recorded_step
from mergenet.training.run import train_run
from mergenet.training.trainer import Trainer
from mergenet.transfer.adapter import Adapter
from mergenet.transfer.source import record_source
from tests import tiny
from tests.tiny import tiny_config

STEPS = 7  # an epoch of the tiny configuration
BOTH = [{"source": "3", "target": "9", "direction": "both"}]
DATA = {"name": "digits", "image_size": 8, "val_fraction": 0.05}
MORE = {"source.data": DATA | {"train_fraction": 0.3}}  # than the target's 0.085
SAME = {"target.model.name": "tiny_mlp", "transfer.pairs": [{"source": "1", "target": "1"}]}  # the same pixels


@pytest.fixture(autouse=True)
def tiny_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with tiny.set_up():
        yield


def found(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    return diagnose(tiny_config(changes))


def link_of(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    (link,) = found(changes)["links"]
    return dict(link)


def fired(facts: dict[str, Any]) -> list[str]:
    return [finding["rule"] for finding in facts["findings"]]


def weights(config: Config, steps: int) -> dict[str, np.ndarray]:
    """Of source layer 3 and target layer 9 after so many steps of both networks by themselves."""
    stopped = config.transfer.model_copy(update={"stop_fraction": 0.0})
    trainer = Trainer(config.model_copy(update={"transfer": stopped}))
    for step in range(steps):
        trainer._step(step)
    assert trainer.source is not None
    assert trainer.source.learner is not None
    layers = {"source": (trainer.source.learner, "3"), "target": (trainer.target, "9")}
    return {
        side: find_layer(learner.network, name).weight.detach().double().numpy()
        for side, (learner, name) in layers.items()
    }


def part(matrix: np.ndarray, basis: np.ndarray) -> float:
    return float(np.sum((basis.T @ matrix) ** 2) / np.sum(matrix**2))


def leading(matrix: np.ndarray, rank: int) -> np.ndarray:
    return np.asarray(np.linalg.svd(matrix)[0][:, :rank])


# ---------------------------------------------------------------- numbers


def test_the_best_share_is_that_of_the_largest_singular_values() -> None:
    matrix = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    squares = torch.linalg.svdvals(matrix.double()) ** 2
    assert torch.allclose(best_shares(matrix), squares.cumsum(0) / squares.sum())
    assert torch.allclose(best_shares(matrix.T), squares.cumsum(0) / squares.sum())
    assert torch.equal(best_shares(torch.zeros(3, 2)), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize("basis", ["start", "current"])
def test_shares_are_those_of_an_svd_of_weights_trained_by_themselves(basis: str) -> None:
    """Rank 4 of 12 x 16 gives to 10 x 8. A followed basis is nearly the leading one."""
    config = tiny_config({"transfer.adapter.source_basis": basis})
    first, last = weights(config, 0), weights(config, STEPS)
    change = {side: last[side] - first[side] for side in first}
    facts = diagnose(config)
    (link,) = facts["links"]
    assert facts["steps"] == link["learned"]["step"] == STEPS
    shown, learned = link["shown"], link["learned"]["shown"]
    assert (shown["change"], shown["best_change"]) == (None, None)
    assert shown["share"] == pytest.approx(part(first["source"], leading(first["source"], 4)), abs=1e-4)
    assert shown["best"] == pytest.approx(shown["share"], abs=1e-4)
    of = first if basis == "start" else last
    close = 1e-4 if basis == "start" else 0.03
    assert learned["share"] == pytest.approx(part(last["source"], leading(of["source"], 4)), abs=close)
    assert learned["change"] == pytest.approx(part(change["source"], leading(of["source"], 4)), abs=2 * close)
    assert learned["best"] == pytest.approx(part(last["source"], leading(last["source"], 4)), abs=1e-4)
    assert learned["best_change"] == pytest.approx(part(change["source"], leading(change["source"], 4)), abs=1e-4)
    assert learned["share"] <= learned["best"] + 1e-6
    assert link["follows"] == (basis == "current")
    receiver = leading(first["target"], 4)
    assert link["written"]["share"] == pytest.approx(part(first["target"], receiver), abs=1e-4)
    assert link["learned"]["written"]["share"] == pytest.approx(part(last["target"], receiver), abs=1e-4)
    assert link["learned"]["written"]["change"] == pytest.approx(part(change["target"], receiver), abs=1e-3)


def test_the_rank_that_half_of_a_weight_takes() -> None:
    config = tiny_config({"transfer.adapter.rank": 1})
    shares = best_shares(torch.from_numpy(weights(config, 0)["source"]))
    (link,) = diagnose(config)["links"]
    shown = link["shown"]
    assert (shown["rank"], shown["largest_rank"]) == (1, 12)
    assert shares[shown["rank_wanted"] - 1] >= 0.5 > shares[shown["rank_wanted"] - 2]


def test_updates_parameters_and_reach() -> None:
    """14 steps of which every 2nd from step 2 on transfers; the rate falls as a cosine after a tenth of them."""
    changes = {"transfer.start_step": 2, "transfer.update.lr": 0.01}
    config, link = tiny_config(changes), link_of(changes)
    done = [step / 14 for step in range(2, 14, 2)]
    moved = sum(0.005 * (1 + math.cos(math.pi * (share - 0.1) / 0.9)) if share >= 0.1 else 0.01 for share in done)
    trainer = Trainer(config)
    matrices = [p.detach().flatten() for p in trainer.transfer.links[0].adapter.parameters() if p.ndim > 1]
    size = torch.cat(matrices).square().mean().sqrt().item()
    assert link["updates"] == 6
    assert link["reach"] == pytest.approx(moved / size, rel=1e-5)
    adapter = Adapter((4, 8), (4, 16), config.transfer.adapter)
    assert link["parameters"] == sum(p.numel() for p in adapter.parameters())


def test_what_both_networks_learn_from() -> None:
    """A source with more data sees as many of them as the steps reach: 14 steps of 16."""
    networks = found(MORE)["networks"]
    assert networks["target"]["examples"] == networks["target"]["seen"] < 14 * 16
    assert networks["source"]["examples"] > networks["source"]["seen"] == 14 * 16
    assert networks["source"]["parameters"] == (192 * 16 + 16) + (16 * 12 + 12) + (12 * 10 + 10)
    assert "value" not in networks["source"]


# ---------------------------------------------------------------- alignment


def test_layers_that_see_the_same_meet_as_they_are() -> None:
    assert link_of(SAME)["align"] == {"space": "inputs", "how": "as it is", "words": None, "r2": None}
    assert link_of()["align"] == {"space": "none", "how": "numbers only", "words": None, "r2": None}


def test_a_map_is_estimated_again_after_the_steps() -> None:
    link = link_of({"transfer.align": "outputs", "transfer.adapter.rank": 2})
    before, after = link["align"], link["learned"]["align"]
    assert (before["space"], before["how"]) == ("outputs", "estimated")
    assert max(before["r2"], after["r2"]) <= 1
    assert before["r2"] != after["r2"]


def test_words_that_the_source_knows() -> None:
    text = {"name": "emoji_names", "max_length": 8}
    network = {"task": "text_classification", "model": {"name": "bert_small"}, "batch_size": 256}
    layer = "backbone.embeddings.word_embeddings"
    config = Config.model_validate(
        {
            "epochs": 1,
            "threads": 1,
            "device": "cpu",
            "source": network | {"data": text | {"train_fraction": 0.2}},
            "target": network | {"data": text},
            "transfer": {"pairs": [{"source": layer, "target": layer}]},
        }
    )
    ours, theirs = vocabulary(config.target), vocabulary(config.source)
    assert ours is not None
    assert theirs is not None
    (link,) = diagnose(config)["links"]
    assert (link["align"]["space"], link["align"]["how"]) == ("inputs", "by word")
    assert link["align"]["words"] == pytest.approx(len(ours.keys() & theirs.keys()) / len(ours), abs=0.01)
    assert 0.05 < link["align"]["words"] < 0.95


# ---------------------------------------------------------------- kinds


def recorded(tmp_path: Path, every: int = 1) -> dict[str, Any]:
    folder = tmp_path / "recording"
    list(record_source(tiny_config(), folder, ["3"], every))
    return {"source.kind": "recorded", "source.recording": str(folder), "transfer.t_cycle": every}


def test_a_recording_is_read_where_it_has_the_weight(tmp_path: Path) -> None:
    """And shows what the live source shows; how good it became is known."""
    live, replayed = found({"transfer.t_cycle": 1}), found(recorded(tmp_path))
    assert replayed["links"][0]["learned"]["step"] == STEPS
    assert replayed["links"][0]["learned"]["shown"] == live["links"][0]["learned"]["shown"]
    assert replayed["networks"]["source"]["examples"] == live["networks"]["source"]["examples"]
    assert 0 <= replayed["networks"]["source"]["value"] <= 1
    assert replayed["networks"]["source"]["parameters"] == live["networks"]["source"]["parameters"]
    steps = [recorded_step(every, 20, 100) for every in (1, 8, 50, 100)]
    assert steps == [20, 16, 50, 0]


def test_both_directions() -> None:
    facts = found({"transfer.pairs": BOTH})
    ends = [(link["name"], link["gives"], link["giver"], link["receiver"]) for link in facts["links"]]
    assert ends == [("pair0/to_target", "source", "3", "9"), ("pair0/to_source", "target", "9", "3")]
    assert all(0 < link["learned"]["written"]["change"] < 1 for link in facts["links"])


@pytest.mark.parametrize("kind", ["full_matrix", "linear"])
def test_whole_matrices_are_written(kind: str) -> None:
    link = link_of({**SAME, "transfer.adapter.kind": kind})
    assert link["learned"]["written"] == {"share": 1.0, "change": 1.0, "remark": None}
    assert (link["shown"]["share"] == 1.0) == (kind == "full_matrix")
    assert (link["shown"]["rank"] is None) == (kind == "full_matrix")


def test_factorized_layers_are_written_in_part_of_their_factors() -> None:
    facts = found({"transfer.adapter.encoding": "factorized", "transfer.pairs": BOTH})
    for link in facts["links"]:
        assert link["learned"]["written"]["share"] == link["learned"]["shown"]["share"] == 1.0
        assert link["written"]["remark"] == "A alone is written, B learns by itself"
    assert "random_part" not in fired(facts)


def test_self() -> None:
    pairs = [{"source": "9", "target": "3"}]
    facts = found({"source": {"kind": "self"}, "transfer.pairs": pairs, "transfer.adapter.rank": 2})
    assert facts["networks"]["source"] == facts["networks"]["target"] | {"kind": "self"}
    assert 0 < facts["links"][0]["learned"]["shown"]["change"] < 1
    assert "no_more_data" not in fired(facts)


def test_a_frozen_source_is_measured_if_all_of_it_was_learned(tmp_path: Path) -> None:
    own = tiny_config({"method": "none", "target.model.name": "tiny_mlp", "epochs": 3})
    list(train_run(own, tmp_path / "run"))
    weights_of = str(tmp_path / "run/best.safetensors")
    frozen = {"source.kind": "frozen", "source.model.weights": weights_of}
    facts = found(frozen)
    (link,) = facts["links"]
    source = facts["networks"]["source"]
    assert (source["metric"], source["value"]) == ("top1", evaluate_run(tmp_path / "run", "val")["top1"])
    assert facts["networks"]["target"]["value"] == Trainer(tiny_config(frozen)).target.evaluate("val")["top1"]
    assert (source["examples"], link["giver_learns"], link["random"]) == (None, False, False)
    assert not {"random_source", "no_more_data"} & set(fired(facts))
    other = found(frozen | {"source.data": DATA | {"val_fraction": 0.06}})
    assert "value" not in other["networks"]["source"]
    alone = found({"source.kind": "frozen"})
    assert alone["links"][0]["random"]
    assert fired(alone)[0] == "random_source"


def test_a_layer_that_the_starting_weights_lack_stays_random() -> None:
    """Weights for 5 classes give all but the head of a network for 10."""
    five = tiny.tiny_mlp(5, "cifar").state_dict()
    torch.save(five, "five.pt")
    changes = {"source.kind": "frozen", "source.model.weights": "five.pt"}
    head = {"transfer.pairs": [{"source": "5", "target": "9"}]}
    assert [link_of(changes | pairs)["random"] for pairs in ({}, head)] == [False, True]
    facts = found(changes | head)
    assert facts["findings"][0]["line"].startswith("5 of the frozen source stays random, because source.model.weights")
    assert "value" not in facts["networks"]["source"]


@pytest.mark.parametrize(
    "changes",
    [
        {"transfer.pairs": BOTH},
        {"transfer.adapter.kind": "full_matrix"},
        {"transfer.adapter.kind": "linear"},
        {"transfer.adapter.encoding": "factorized"},
        {"transfer.align": "inputs"},
        {"transfer.control": "none"},
        {"transfer.stop_fraction": 0.0},
    ],
)
def test_everything_is_plain_values(changes: dict[str, Any]) -> None:
    facts = found(changes)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_it_leaves_random_streams_and_folders_alone(tmp_path: Path) -> None:
    before, state = list(tmp_path.iterdir()), torch.get_rng_state()
    found()
    assert list(tmp_path.iterdir()) == before
    assert torch.equal(torch.get_rng_state(), state)


# ---------------------------------------------------------------- rules


def clean() -> dict[str, Any]:
    """Facts of which no rule has anything to say."""
    learned = {"share": 0.6, "best": 0.7, "change": 0.5, "best_change": 0.8}
    sizes = {"rank": 8, "rank_wanted": 4, "largest_rank": 16}
    align = {"space": "inputs", "how": "as it is", "words": None, "r2": None}
    written = {"share": 0.5, "change": 0.4, "remark": None}
    link = {
        "name": "pair0/to_target",
        **{"gives": "source", "giver": "fc1", "receives": "target", "receiver": "fc2"},
        **{"adapter": "lpka", "encoding": "projected", "init": None, "giver_learns": True, "follows": True},
        **{"align": align, "shown": {**learned, "change": None, **sizes}, "written": written, "random": False},
        **{"every": 8, "updates": 100, "parameters": 10, "reach": 2.0},
        "learned": {"step": 20, "shown": {**learned, **sizes}, "written": written, "align": align},
    }
    network = {"task": "t", "pretrained": False, "examples": 100, "seen": 100, "parameters": 10}
    networks = {"source": network | {"kind": "live", "seen": 1000}, "target": network | {"kind": "target"}}
    return {"name": "x", "control": "real", "steps": 20, "networks": networks, "links": [link]}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    facts = clean()
    for path, value in changes.items():
        *parents, last = path.replace("link.", "links.0.").split(".")
        node: Any = facts
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node[key]
        node[last] = value
    return facts


ESTIMATED = {"link.learned.align.how": "estimated"}
FROZEN = {"link.giver_learns": False, "link.follows": False, "networks.source.kind": "frozen"}
PRETRAINED = {**FROZEN, "networks.source.pretrained": True, "networks.source.seen": None}
FIRES: list[tuple[str, dict[str, Any], str]] = [
    ("control", {"control": "noise"}, "transfer.control is noise: "),
    ("random_source", {**FROZEN, "link.random": True, "networks.source.seen": None}, "set source.model.weights, or"),
    ("random_source", {**PRETRAINED, "link.random": True}, "fc1 of the frozen source stays random"),
    ("no_transfer", {"link.updates": 0}, "lower transfer.t_cycle (this pair's is 8)"),
    ("no_meaning", {"link.adapter": "linear", "link.align.how": "numbers only"}, "set transfer.align: inputs or"),
    (
        "worse_source",
        {"networks.source.value": 0.3, "networks.source.metric": "top1", "networks.target.value": 0.4},
        "the source's validation top1 (30 %) is no better than the target's before it learns (40 %)",
    ),
    (
        "random_part",
        {"link.follows": False, "link.learned.shown.change": 0.093},
        "9.3 % of its change in 20 steps, where rank 8 could show 80 %; set transfer.adapter.source_basis: current",
    ),
    ("random_part", {"link.follows": False, "link.learned.shown.change": None}, "source_basis is start and the source"),
    ("stiff", {"link.reach": 0.49}, "the adapter gets 100 updates, which can move its random weights by 49 % of"),
    ("poor_map", {**ESTIMATED, "link.learned.align.r2": 0.19}, "R^2 0.19"),
    ("few_words", {"link.align.words": 0.4}, "the source knows 40 % of the target's words"),
    ("little_shown", {"link.learned.shown.best_change": 0.3}, "rank 8 can show 30 % of what the source learned in 20"),
    ("little_shown", {**PRETRAINED, "link.learned.shown.best": 0.1}, "rank 8 can show 10 % of the source's weight at"),
    ("little_written", {"link.learned.written.change": 0.19}, "a transfer can write 19 % of what the target learned"),
    ("no_space", {"link.align.how": "numbers only"}, "name layers that share one in transfer.pairs"),
    ("no_more_data", {"networks.source.seen": 100}, "the source learns from 100 examples, the target from 100"),
]
QUIET: list[tuple[str, dict[str, Any]]] = [
    ("worse_source", {"networks.source.value": 0.5, "networks.source.metric": "a", "networks.target.value": 0.4}),
    ("random_part", {**PRETRAINED}),
    ("random_part", {"link.follows": False, "link.shown.rank": None}),
    ("stiff", {"link.reach": 0.5}),
    ("stiff", {"link.reach": 0.1, "link.adapter": "linear"}),
    ("stiff", {"link.reach": 0.1, "link.init": "runs/x"}),
    ("poor_map", {**ESTIMATED, "link.learned.align.r2": 0.2}),
    ("few_words", {"link.align.words": 0.5}),
    ("little_shown", {"link.learned.shown.best": 0.1}),  # of a weight that is random still
    ("little_shown", {**PRETRAINED, "link.learned.shown.best": 0.34}),
    ("little_written", {"link.learned.written.change": None, "link.learned.written.share": 0.1}),
    ("no_space", {"link.align.how": "estimated"}),
    ("no_more_data", {"networks.source.seen": 10, "networks.source.kind": "self"}),
    ("no_more_data", {"networks.source.seen": 10, "networks.source.pretrained": True}),
]


def test_nothing_stands_in_the_way_of_the_clean_case() -> None:
    assert findings(clean()) == []
    assert lines([]) == [NOTHING] == ["nothing stands in the way"]


@pytest.mark.parametrize(("rule", "changes", "text"), FIRES)
def test_each_rule_fires_alone_and_names_the_way_out(rule: str, changes: dict[str, Any], text: str) -> None:
    (finding,) = findings(changed(changes))
    assert finding["rule"] == rule
    assert finding["links"] == ["pair0/to_target"]
    assert text in finding["line"]
    assert any(section in finding["line"] for section in ("transfer.", "source."))
    assert len(finding["line"].splitlines()) == 1


@pytest.mark.parametrize(("rule", "changes"), QUIET)
def test_and_not_where_it_is_not_true(rule: str, changes: dict[str, Any]) -> None:
    assert rule not in [finding["rule"] for finding in findings(changed(changes))]


def test_no_rule_is_left_out() -> None:
    assert list(dict.fromkeys(rule for rule, _, _ in FIRES)) == list(RULES)  # worst first


def test_several_links_are_one_line_of_the_worst() -> None:
    facts = changed({"link.reach": 0.4})
    other = json.loads(json.dumps(facts["links"][0])) | {"name": "pair1/to_target", "reach": 0.2}
    facts["links"].append(other)
    (finding,) = findings(facts)
    assert finding["links"] == ["pair0/to_target", "pair1/to_target"]
    assert finding["line"].startswith("pair1/to_target, the worst of 2: the adapter gets 100 updates, which can move")
    other["reach"] = 2.0
    assert findings(facts)[0]["line"].startswith("pair0/to_target: the adapter gets")
    other["reach"] = 0.4
    assert findings(facts)[0]["line"].startswith("the adapter gets")


def test_between_two_that_teach_each_other_only_the_source_is_asked() -> None:
    facts = changed({"networks.source.seen": 1000})
    back = json.loads(json.dumps(facts["links"][0]))
    back |= {"name": "pair0/to_source", "gives": "target", "receives": "source"}
    facts["links"].append(back)
    assert findings(facts) == []
    facts["links"] = [back]
    assert findings(facts)[0]["line"].startswith("the target learns from 100 examples, the source from 1,000")


def test_real_cases_fire() -> None:
    """Of the tiny networks: a start basis, and too few updates of an adapter that knows no space."""
    rules = fired(found({"transfer.adapter.source_basis": "start"}))
    assert rules[:2] == ["random_part", "stiff"]
    assert {"no_space", "no_more_data"} <= set(rules)
    linear = fired(found({"transfer.adapter.kind": "linear"}))
    assert linear[0] == "no_meaning"
    assert not {"stiff", "no_space"} & set(linear)
    assert fired(found({"transfer.stop_fraction": 0.0}))[0] == "no_transfer"
    shared = {**SAME, "transfer.adapter.kind": "linear", **MORE}
    assert fired(found(shared)) == []


# ---------------------------------------------------------------- the command


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["diagnose", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(dump_yaml(tiny_config({"transfer.adapter.source_basis": "start"})))
    return path


def test_the_command_shows_a_table_and_advice_and_leaves_nothing(config_file: Path, tmp_path: Path) -> None:
    shown = call(config_file).stdout.splitlines()
    assert shown[0] == "run: after 7 steps without transfer"
    assert shown[1].split()[:4] == ["link", "from", "to", "space"]
    assert shown[2].split()[:3] == ["pair0/to_target", "3", "9"]
    assert len(shown[1]) == len(shown[2])
    assert "source: live, random weights, 3,422 parameters, learns from " in shown[3]
    assert "whether the source is better is not known before it has learned" in shown
    first = shown[shown.index("advice, worst first:") + 1]
    assert first.startswith("  a random part of what the source learns is shown, ")
    assert shown[-1].startswith("took ")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_settings_and_json(config_file: Path) -> None:
    result = call(config_file, "--json", "--set", "transfer.control=noise", "--set=transfer.t_cycle=3")
    facts = json.loads(result.stdout)
    assert (facts["control"], facts["findings"][0]["rule"]) == ("noise", "control")
    assert facts["links"][0]["updates"] == 5
    assert result.stderr == ""


def test_a_random_frozen_source_is_said_once(config_file: Path) -> None:
    result = call(config_file, "--set=source.kind=frozen")
    assert (
        "  the source is frozen with random weights and has nothing to give; set source.model.weights" in result.stdout
    )
    assert "warning" not in result.output


def test_a_terminal_gets_a_frame(capsys: pytest.CaptureFixture[str]) -> None:
    facts = clean() | {"findings": [], "seconds": 1.5}
    show_diagnosis(facts, Console(force_terminal=True, width=160, highlight=False))
    text = capsys.readouterr().out
    assert "x: after 20 steps without transfer" in text
    assert "│ pair0/to_target │ fc1" in text
    assert f"advice:\n  {NOTHING}\ntook 1.5 s; nothing has been written\n" in text


@pytest.mark.parametrize("method", ["none", "kd"])
def test_without_adapters_there_is_nothing_to_diagnose(method: str) -> None:
    same = ["--set=source.kind=live", f"--set=method={method}"]
    result = call("digits", *same, code=2)
    assert result.stdout == ""
    assert result.stderr == (
        f"error: method must be mergenet to be diagnosed, got '{method}'; it maps no weight onto another, so there is "
        "nothing to diagnose; set method: mergenet\n"
    )


def test_bad_layers_are_refused_as_in_training() -> None:
    with pytest.raises(ConfigError, match=r"transfer\.pairs\.0\.source must be one of"):
        found({"transfer.pairs": [{"source": "4.5", "target": "9"}]})
