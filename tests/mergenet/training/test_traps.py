"""What is known to go wrong (docs: method, "known to go wrong", points 1 to 13): one class a point.

Each test fails when the guard that it names is taken out. Point 6 (several workers) stands in
tests/integration/test_distributed.py.
"""

import os
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mergenet.data import DATASETS, Split, load_data
from mergenet.errors import ConfigError, TrainingDiverged
from mergenet.layers.matrices import to_matrix
from mergenet.records.checkpoint import load_tensors
from mergenet.records.run_record import read_run
from mergenet.training.run import train_run
from mergenet.training.trainer import Trainer
from mergenet.transfer.link import Link
from tests.tiny import copies, same, snapshot, tiny_config, without_times

pytestmark = pytest.mark.usefixtures("tiny")


def build(changes: dict[str, Any] | None = None) -> Trainer:
    return Trainer(tiny_config(changes))


def steps(trainer: Trainer, last: int, first: int = 0) -> None:
    for step in range(first, last):
        trainer._step(step)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return copies(trainer.target.network.state_dict())


class TestRunAway:
    """1: un-gated answers at T_cycle 1 destroy the target; defaults are safe and a wreck is stopped in one line."""

    CHANGES: ClassVar[dict[str, Any]] = {
        "epochs": 10,
        "transfer.t_cycle": 1,
        "target.model.name": "tiny_mlp",
        "target.data.train_fraction": 0.3,
        "target.augment": False,  # the target must learn well by itself, so that harm shows
    }

    def outcome(self, target: str, changes: dict[str, Any]) -> tuple[float, float]:
        """(mean loss of the last epoch, RMS of the factor over its starting RMS)."""
        pair = {"transfer.pairs": [{"source": "3", "target": target}]}
        trainer = build({**self.CHANGES, **pair, **changes})
        loss = list(trainer.epochs())[-1].metrics["target_train_loss"]
        links = trainer.transfer.links
        return loss, links[0].receiver.read().square().mean().sqrt().item() / links[0].start_rms if links else 1.0

    @pytest.mark.parametrize("layer", ["1", "5"])
    def test_the_default_gate_and_rms_matching_are_safe_at_t_cycle_1(self, layer: str) -> None:
        alone, _ = self.outcome(layer, {"method": "none"})
        loss, ratio = self.outcome(layer, {})
        assert loss < 4 * alone < 0.2, "far from chance, ln 10: what is wrecked below is above 8 times this"
        assert 0.5 < ratio < 3

    def test_without_rms_matching_the_same_run_is_wrecked(self) -> None:
        alone, _ = self.outcome("1", {"method": "none"})
        loss, ratio = self.outcome("1", {"transfer.adapter.rms_match": False})
        assert loss > 8 * alone
        assert ratio > 10

    def test_without_the_gate_the_same_run_learns_less(self) -> None:
        alone, _ = self.outcome("5", {"method": "none"})
        loss, _ = self.outcome("5", {"transfer.adapter.gate": 1.0})
        assert loss > 2 * alone

    def test_a_non_finite_loss_stops_the_run_in_one_line(self) -> None:
        trainer = build({"target.optimizer.lr": 1e30, "transfer.stop_fraction": 0.0})
        with pytest.raises(
            TrainingDiverged,
            match=r"^target loss became (nan|inf) by step \d+; lower target.optimizer.lr \(1e\+30, usual is up to 1\)$",
        ) as e:
            list(trainer.epochs())
        assert "\n" not in str(e.value)

    def test_a_non_finite_loss_of_the_source_stops_the_run_too(self) -> None:
        trainer = build({"source.optimizer.lr": 1e30, "transfer.stop_fraction": 0.0})
        with pytest.raises(TrainingDiverged, match=r"^source loss became (nan|inf) by step"):
            list(trainer.epochs())

    def test_a_rate_out_of_range_is_blamed_and_not_the_gate(self) -> None:
        for name in ("target.optimizer.lr", "transfer.update.lr"):
            trainer = build({name: 1e6, "transfer.adapter.rms_match": False, "transfer.update.clip_norm": 1e9})
            with pytest.raises(TrainingDiverged, match=rf"; lower {name} \(1e\+06, usual is up to [0-9.]+\)$"):
                list(trainer.epochs())

    @pytest.mark.parametrize("scale", [1e-5, 1e5])
    def test_a_collapsed_or_exploded_factor_stops_the_run(self, scale: float) -> None:
        trainer = build()
        steps(trainer, 2)
        with torch.no_grad():
            trainer.target.network.get_parameter("9.weight").mul_(scale)
        with pytest.raises(TrainingDiverged, match=r"^transfer pair0/to_target would write a factor of .* at step 2 "):
            trainer._step(2)


class TestIgnoredSource:
    """2: the controls show the adapter something else, and how much it depends on the source is logged."""

    def shown(self, control: str, count: int = 2) -> tuple[Link, list[Tensor], list[Tensor], list[Tensor]]:
        """The link; of each transfer what its adapter was shown, the source's real factor, the target's."""
        trainer = build({"transfer.control": control, "transfer.t_cycle": 1})
        (link,) = trainer.transfer.links
        reader = deepcopy(link.giver)  # with a basis of its own: reading moves it on
        reader.encoding.layer, reader.weight = link.giver.encoding.layer, link.giver.weight
        sources, real, targets = [], [], []
        for step in range(count):
            real.append(reader.shown(step))
            trainer._step(step)
            assert link.last is not None
            targets.append(link.last[0])
            sources.append(link.last[1])
        return link, sources, real, targets

    def test_real_shows_the_sources_factor(self) -> None:
        _, shown, real, _ = self.shown("real")
        assert all(torch.equal(a, b) for a, b in zip(shown, real, strict=True))

    def test_shuffled_shows_its_entries_in_one_other_order(self) -> None:
        _, shown, real, _ = self.shown("shuffled")
        for a, b in zip(shown, real, strict=True):
            assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)
            assert (a == b).float().mean() < 0.2
        places = [
            (b.flatten()[:, None] == a.flatten()[None]).float().argmax(dim=0) for a, b in zip(shown, real, strict=True)
        ]
        assert torch.equal(places[0], places[1]), "one permutation for the whole run"

    def test_noise_shows_new_noise_of_the_same_rms_each_time(self) -> None:
        _, shown, real, _ = self.shown("noise")
        for a, b in zip(shown, real, strict=True):
            assert (a.norm() / b.norm()).item() == pytest.approx(1, abs=0.35)
            assert abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()) < 0.5
        assert not torch.equal(shown[0], shown[1])

    def test_none_shows_only_the_targets_own_factor(self) -> None:
        link, shown, _, targets = self.shown("none")
        assert all(torch.equal(a, b) for a, b in zip(shown, targets, strict=True))
        assert shown[0].shape == link.receiver.factor_shape != link.giver.shape

    def test_under_none_and_only_there_the_source_cannot_reach_the_target(self) -> None:
        def trained(control: str, source_seed: int) -> dict[str, Tensor]:
            trainer = build({"transfer.control": control, "source.seed": source_seed})
            steps(trainer, 5)
            return weights(trainer)

        assert same(trained("none", 0), trained("none", 1))
        for control in ("real", "shuffled", "noise"):
            assert not same(trained(control, 0), trained(control, 1)), control

    @pytest.mark.parametrize("control", ["real", "shuffled", "noise", "none"])
    def test_each_control_trains_another_target(self, control: str) -> None:
        for other in {"real", "shuffled", "noise", "none"} - {control}:
            trainers = [build({"transfer.control": name}) for name in (control, other)]
            for trainer in trainers:
                steps(trainer, 3)
            assert not same(weights(trainers[0]), weights(trainers[1])), other

    @pytest.mark.parametrize("control", ["real", "shuffled", "noise"])
    def test_dependence_on_the_source_is_logged(self, control: str) -> None:
        result = next(build({"transfer.control": control}).epochs())
        assert 1e-2 < result.metrics["source_dependence"] < 2

    def test_dependence_is_zero_where_no_source_is_shown(self) -> None:
        assert next(build({"transfer.control": "none"}).epochs()).metrics["source_dependence"] == 0

    def test_dependence_is_that_of_a_source_swapped_for_noise(self) -> None:
        trainer = build({"transfer.adapter.rms_match": True})
        steps(trainer, 3)
        (link,) = trainer.transfer.links
        deaf = [p for name, p in link.adapter.named_parameters() if ".value." in name]
        assert deaf
        assert link.dependence() > 1e-2
        with torch.no_grad():
            for parameter in deaf:
                parameter.zero_()
        assert link.dependence() < 1e-6, "an adapter that reads nothing from the source"


class TestFactorAmbiguity:
    """3: bases that receive are fixed once; no SVD of a weight runs in the loop, and none is differentiated through."""

    PAIRS: ClassVar[list[dict[str, str]]] = [
        {"source": "3", "target": "9", "direction": "both"},
        {"source": "5", "target": "3"},
    ]

    def test_no_svd_after_construction(self, monkeypatch: pytest.MonkeyPatch) -> None:
        changes = {"transfer.pairs": self.PAIRS, "transfer.adapter.rank": 2, "transfer.adapter.source_basis": "start"}
        trainers = [build({**changes, "transfer.adapter.encoding": e}) for e in ("projected", "factorized")]

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("an SVD in the training loop")

        for module, name in ((torch.linalg, "svd"), (torch, "svd"), (torch.linalg, "eigh"), (torch.linalg, "qr")):
            monkeypatch.setattr(module, name, refuse)
        for trainer in trainers:
            assert len(list(trainer.epochs())) == 2

    def test_following_a_source_takes_no_svd_of_a_weight_after_the_first_reading(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trainer = build({"transfer.pairs": self.PAIRS, "transfer.adapter.rank": 2})
        trainer._step(0)
        svd, shapes = torch.linalg.svd, []

        def noted(matrix: Tensor, *rest: Any, **more: Any) -> Any:
            assert not matrix.requires_grad
            shapes.append(tuple(matrix.shape))
            return svd(matrix, *rest, **more)

        monkeypatch.setattr(torch.linalg, "svd", noted)
        steps(trainer, 5, 1)
        # two transfers of three links, of a linear layer's rank 2 or a target's: R x R each
        assert shapes == [(2, 2)] * 6

    def test_bases_that_receive_or_are_those_of_the_start_stay_as_they_were(self) -> None:
        for basis in ("current", "start"):
            trainer = build({"transfer.pairs": self.PAIRS[:1], "transfer.adapter.source_basis": basis})
            encodings = [link.receiver for link in trainer.transfer.links]
            if basis == "start":
                encodings += [link.giver.encoding for link in trainer.transfer.links]
            before = [copies(e.state_dict()) for e in encodings]
            list(trainer.epochs())
            assert all(same(e.state_dict(), old) for e, old in zip(encodings, before, strict=True))

    def test_a_resumed_run_takes_its_bases_from_the_checkpoint(self) -> None:
        """Another machine's SVD may turn them."""
        trainer, resumed = build(), build()
        steps(trainer, 3)
        state = snapshot(trainer.state_dict())
        link = state["transfer"]["pair0/to_target"]
        for basis in (link["receiver"]["basis"], link["giver"]["encoding"]["basis"]):
            basis.neg_()
        resumed.load_state_dict(state)
        (old,), (new,) = trainer.transfer.links, resumed.transfer.links
        assert torch.equal(new.receiver.read(), -old.receiver.read())
        assert torch.equal(new.giver.shown(4), -old.giver.shown(4))

    def test_signs_are_fixed(self) -> None:
        (link,) = build().transfer.links
        link.giver.shown(0)
        for encoding in (link.receiver, link.giver.encoding):
            basis = encoding.state_dict()["basis"]
            assert (basis.gather(0, basis.abs().argmax(0, keepdim=True)) > 0).all()


class TestDeltaIsNotAGradient:
    """4: delta = lr * (gradient + decay + momentum); it can be had without the learning rate."""

    BASE: ClassVar[dict[str, Any]] = {"target.model.name": "tiny_mlp", "target.optimizer.schedule": "constant"}
    PAIR: ClassVar[dict[str, Any]] = {"transfer.pairs": [{"source": "3", "target": "3"}]}

    def vector(self, changes: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """What the adapter learned from at step 0, and A' and A+ as computed here."""
        trainer = build({**self.BASE, **self.PAIR, **changes})
        (link,) = trainer.transfer.links
        vectors, learn = [], link.learn
        link.learn = lambda vector, done: (vectors.append(vector), learn(vector, done))[1]
        trainer.transfer.begin(0)
        assert link.open is not None
        written = link.open.written
        trainer.target.set_rate(0, 14, 7)
        trainer.target.backward()
        trainer.transfer.observe()
        trainer.target.update()
        trainer.transfer.finish(0, {"target": True})
        basis = link.receiver.state_dict()["basis"]
        return vectors[0], written, basis.T @ to_matrix(link.receiver.weight_parameter.detach())

    def test_delta_holds_rate_and_decay(self) -> None:
        rate, decay = 0.05, 0.3
        gradient, written, _ = self.vector({"transfer.update.rule": "gradient"})
        delta, _, _ = self.vector({"target.optimizer.lr": rate, "target.optimizer.weight_decay": decay})
        torch.testing.assert_close(delta, rate * (gradient + decay * written), atol=1e-6, rtol=1e-3)

    def test_normalized_delta_is_the_way_over_the_rate_exactly(self) -> None:
        for rate in (0.01, 0.1):
            vector, written, after = self.vector({"target.optimizer.lr": rate, "transfer.update.normalize": True})
            assert torch.equal(vector, (written - after) / rate)

    def test_normalized_delta_does_not_fade_with_the_rate(self) -> None:
        small, large = (
            self.vector({"target.optimizer.lr": rate, "transfer.update.normalize": True})[0] for rate in (0.01, 0.1)
        )
        torch.testing.assert_close(small, large, atol=1e-4, rtol=1e-2)


class TestStaleOptimizerState:
    """5: the momentum of an overwritten weight is kept, forgotten, or scaled by 1 - gate."""

    @pytest.mark.parametrize(("optimizer", "key"), [("sgd", "momentum_buffer"), ("adamw", "exp_avg")])
    @pytest.mark.parametrize("policy", ["keep", "reset", "scale"])
    def test_state_after_a_transfer(self, policy: str, optimizer: str, key: str) -> None:
        changes = {"target.optimizer.name": optimizer, "transfer.optimizer_state": policy, "transfer.adapter.gate": 0.3}
        trainer = build(changes)
        steps(trainer, 2)
        (link,) = trainer.transfer.links
        weight = link.receiver.weight_parameter
        state = trainer.target.optimizer.state
        before = {p: copies({k: torch.as_tensor(v) for k, v in s.items()}) for p, s in state.items()}
        trainer.transfer.begin(2)
        for parameter, old in before.items():
            if parameter is not weight:
                assert same(state[parameter], old)
        if policy == "reset":
            assert not state.get(weight)
            return
        expected = before[weight][key] * (0.7 if policy == "scale" else 1.0)
        torch.testing.assert_close(state[weight][key], expected)
        assert same(
            {k: v for k, v in state[weight].items() if k != key}, {k: v for k, v in before[weight].items() if k != key}
        )

    def test_after_reset_the_next_step_has_no_momentum(self) -> None:
        trainer = build({"transfer.optimizer_state": "reset", "target.optimizer.weight_decay": 0.0})
        steps(trainer, 2)
        trainer.transfer.begin(2)
        weight = trainer.transfer.links[0].receiver.weight_parameter
        start = weight.detach().clone()
        rate = trainer.target.set_rate(2, 14, 7)
        trainer.target.backward()
        assert weight.grad is not None
        expected = start - rate * weight.grad
        trainer.target.update()
        torch.testing.assert_close(weight.detach(), expected)

    def test_a_learned_gate_scales_by_its_present_value(self) -> None:
        trainer = build({"transfer.optimizer_state": "scale", "transfer.adapter.learned_gate": True})
        steps(trainer, 2)
        (link,) = trainer.transfer.links
        with torch.no_grad():
            assert link.adapter.gate_logit is not None
            link.adapter.gate_logit.fill_(0.0)
        moment = trainer.target.optimizer.state[link.receiver.weight_parameter]["momentum_buffer"]
        before = moment.clone()
        trainer.transfer.begin(2)
        torch.testing.assert_close(moment, before * 0.5)


class TestMixedPrecision:
    """7: adapter, factors and delta stay fp32; a skipped step of the target skips the adapter's."""

    @pytest.mark.parametrize("amp", ["bf16", "fp16"])
    def test_adapter_factors_and_delta_are_fp32(self, amp: str) -> None:
        trainer = build({"amp": amp, "target.optimizer.lr": 0.01})
        (link,) = trainer.transfer.links
        kinds: dict[str, set[torch.dtype]] = {"network": set(), "adapter": set()}
        watch = {"network": trainer.target.network.get_submodule("3"), "adapter": link.adapter}
        for name, module in watch.items():
            module.register_forward_hook(lambda _m, _i, out, name=name: kinds[name].add(out.dtype))
        vectors, learn = [], link.learn
        link.learn = lambda vector, done: (vectors.append(vector), learn(vector, done))[1]
        steps(trainer, 7)
        assert kinds == {
            "network": {getattr(torch, {"bf16": "bfloat16", "fp16": "float16"}[amp])},
            "adapter": {torch.float32},
        }
        assert vectors
        found = [*vectors, *link.adapter.parameters(), link.receiver.read(), link.giver.shown(0)]
        assert link.last is not None
        assert {x.dtype for x in (*found, *link.last)} == {torch.float32}

    def test_the_adapter_is_fp32_even_inside_autocast(self) -> None:
        (link,) = build({"transfer.adapter.dropout": 0.0}).transfer.links
        target, source = link.receiver.read(), link.giver.shown(0)
        link.adapter.eval()
        outside = link.adapter(target, source)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(link.adapter(target, source), outside)

    @pytest.mark.parametrize("rule", ["delta", "gradient"])
    def test_an_overflow_skips_both_steps_and_the_run_goes_on(self, rule: str) -> None:
        trainer = build(
            {"amp": "fp16", "transfer.update.rule": rule, "target.optimizer.lr": 0.01, "transfer.t_cycle": 1}
        )
        (link,) = trainer.transfer.links
        overflow = [False]
        bias = trainer.target.network.get_parameter("9.bias")
        bias.register_hook(lambda grad: grad * float("inf") if overflow[0] else grad)
        steps(trainer, 3)
        skipped: list[bool] = []
        update = trainer.target.update
        trainer.target.update = lambda: skipped.append(not update()) or not skipped[-1]
        overflow[0] = True
        adapter, moments = copies(dict(link.adapter.named_parameters())), snapshot(link.optimizer.state_dict())
        own = copies({name: p for name, p in trainer.target.network.named_parameters() if name != "9.weight"})
        trainer._step(3)
        assert skipped == [True]
        now = dict(trainer.target.network.named_parameters())
        assert same({name: now[name].detach() for name in own}, own)
        assert same(copies(dict(link.adapter.named_parameters())), adapter)
        assert snapshot(link.optimizer.state_dict())["state"][0]["step"] == moments["state"][0]["step"]
        assert link.open is None
        overflow[0] = False
        trainer._step(4)
        assert skipped == [True, False]
        assert not same(copies(dict(link.adapter.named_parameters())), adapter)
        assert all(p.isfinite().all() for p in trainer.target.network.parameters())


class TestBatchNorm:
    """8: statistics lag a transfer and can be estimated anew; exported weights hold buffers."""

    CHANGES: ClassVar[dict[str, Any]] = {
        "epochs": 3,
        "transfer.stop_fraction": 0.5,
    }  # the last transfer is in the second epoch

    def buffers(self, trainer: Trainer) -> dict[str, Tensor]:
        return copies({name: b for name, b in trainer.target.network.named_buffers() if "running" in name})

    def test_statistics_become_those_of_the_present_weights(self) -> None:
        trainer = build({**self.CHANGES, "transfer.recalibrate_batches": 4})
        epochs = trainer.epochs()
        next(epochs)
        next(epochs)
        norm = trainer.target.network.get_submodule("1")
        assert isinstance(norm, nn.BatchNorm2d)
        seen: list[Tensor] = []
        norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        recalibrated = self.buffers(trainer)
        trainer.target.recalibrate(4)
        assert same(self.buffers(trainer), recalibrated), "a function of the weights alone"
        assert len(seen) == 4
        torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0))
        torch.testing.assert_close(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0))

    def test_only_the_epoch_of_the_last_transfer_is_recalibrated_and_training_is_untouched(self) -> None:
        trainers = [build({**self.CHANGES, "transfer.recalibrate_batches": n}) for n in (0, 4)]
        equal, losses = [], []
        for results in zip(*(trainer.epochs() for trainer in trainers), strict=True):
            equal.append(same(self.buffers(trainers[0]), self.buffers(trainers[1])))
            losses.append([r.metrics["target_train_loss"] for r in results])
            parameters = [copies(dict(t.target.network.named_parameters())) for t in trainers]
            assert same(*parameters)
            states = [t.target.state_dict() for t in trainers]
            for name in ("augmenting", "forwarding"):
                assert same(states[0][name], states[1][name])
            assert states[0]["batches"]["position"] == states[1]["batches"]["position"]
            assert torch.equal(states[0]["batches"]["order"], states[1]["batches"]["order"])
        assert equal[:2] == [True, False]
        assert all(a == b for a, b in losses)

    @pytest.mark.parametrize(
        ("pairs", "recalibrated"),
        [
            ([("3", "3", "to_target")], {"target": 2}),
            ([("3", "3", "to_source")], {"source": 2}),
            ([("3", "3", "both")], {"target": 2, "source": 2}),
            # every 6 steps back: the last of these transfers, step 6 of 7, is in the first epoch
            ([("3", "3", "to_target"), ("0", "0", "to_source")], {"target": 2, "source": 1}),
        ],
    )
    def test_each_network_into_which_a_link_writes_is_recalibrated_after_its_own_last_transfer(
        self, pairs: list[tuple[str, str, str]], recalibrated: dict[str, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = [dict(zip(("source", "target", "direction"), pair, strict=True)) for pair in pairs]
        given[1:] = [pair | {"every": 6} for pair in given[1:]]
        model = {"source.model.name": "tiny_cnn", "transfer.pairs": given, "transfer.recalibrate_batches": 2}
        trainer = build({**self.CHANGES, **model})
        found: dict[str, int] = {}
        for one in trainer.learners:
            monkeypatch.setattr(one, "recalibrate", lambda _, role=one.role: found.update({role: trainer.epoch}))
        list(trainer.epochs())
        assert found == recalibrated

    def test_exported_weights_hold_buffers(self, tmp_path: Path) -> None:
        list(train_run(tiny_config(), tmp_path / "run"))
        tensors, _ = load_tensors(tmp_path / "run" / "best.safetensors")
        network = build().target.network
        assert tensors.keys() == network.state_dict().keys()
        assert not torch.equal(tensors["1.running_mean"], torch.zeros(6))
        assert tensors["1.num_batches_tracked"] >= 7


class TestLayerLookup:
    """9: a misspelt layer is an error that lists the nearest names."""

    @pytest.mark.parametrize("side", ["source", "target"])
    def test_a_misspelt_layer(self, side: str) -> None:
        names = {"source": "layer3.0.conv1", "target": "classifier.1"}
        bad = {**names, side: {"source": "layer3.0.conv_1", "target": "clasifier.1"}[side]}
        near = {"source": "layer3.0.conv1", "target": "classifier.1"}[side]
        changes = {f"{s}.model.name": n for s, n in (("source", "resnet_small"), ("target", "mobilenetv2_small"))}
        with pytest.raises(ConfigError) as caught:
            build({**changes, "transfer.pairs": [bad]})
        message = str(caught.value)
        assert message.startswith(f"transfer.pairs.0.{side} must be one of ")
        assert f"got '{bad[side]}'; did you mean {near}" in message
        assert "\n" not in message

    @pytest.mark.parametrize("encoding", ["projected", "factorized"])
    @pytest.mark.parametrize(("layer", "reason"), [("1", "is a BatchNorm2d"), ("2", "is a ReLU")])
    def test_a_layer_without_a_matrix(self, layer: str, reason: str, encoding: str) -> None:
        changes = {"transfer.pairs": [{"source": "3", "target": layer}], "transfer.adapter.encoding": encoding}
        with pytest.raises(
            ConfigError, match=rf"^transfer\.pairs\.0\.target must be .*, got '{layer}', which {reason}$"
        ):
            build(changes)


@pytest.fixture
def corrupted() -> Iterator[None]:
    """A data set that is the digits with other labels in its test split."""

    def load(config: Any) -> Any:
        data = load_data(config.model_copy(update={"name": "digits"}))
        labels = data.test.labels
        return type(data)(data.train, data.val, Split(data.test.images, (labels + 1) % 10), data.class_names, "other")

    DATASETS["corrupted"] = load
    yield
    del DATASETS["corrupted"]


class TestSelectionOnTheTestSet:
    """10: validation chooses; the test split is read once, at the end, with the chosen weights."""

    CHANGES: ClassVar[dict[str, Any]] = {
        "epochs": 4,
        "seed": 3,
        "target.optimizer.lr": 0.2,
        "target.model.name": "tiny_mlp",
    }
    PAIR: ClassVar[dict[str, Any]] = {"transfer.pairs": [{"source": "3", "target": "3"}]}

    def test_the_test_split_is_read_once_after_the_last_epoch(self) -> None:
        trainer = build({**self.CHANGES, **self.PAIR})
        seen: list[tuple[str, list[int]]] = []
        for learner in trainer.learners:
            batch = learner.task.batch

            def noted(split: str, index: Tensor, *rest: Any, batch: Any = batch, **more: Any) -> Any:
                seen.append((split, index.tolist()))
                return batch(split, index, *rest, **more)

            learner.task.batch = noted
        list(trainer.epochs())
        assert {split for split, _ in seen} == {"train", "val"}
        seen.clear()
        trainer.test()
        assert [split for split, _ in seen] == ["test"] * len(seen)
        assert [i for _, index in seen for i in index] == list(range(trainer.target.task.size("test")))

    @pytest.mark.usefixtures("corrupted")
    def test_other_test_labels_change_nothing_but_the_test_metrics(self, tmp_path: Path) -> None:
        records = []
        for name in ("digits", "corrupted"):
            config = tiny_config({**self.CHANGES, **self.PAIR, "target.data.name": name, "source.data.name": name})
            list(train_run(config, tmp_path / name))
            records.append(read_run(tmp_path / name))
        a, b = records
        assert [without_times(row) for row in a.epochs] == [without_times(row) for row in b.epochs]
        differing = {key for key in a.result if a.result[key] != b.result[key]}
        assert differing <= {"target_test_top1", "target_test_top5", "target_test_loss"}
        assert "target_test_loss" in differing
        assert same(*(load_tensors(tmp_path / name / "best.safetensors")[0] for name in ("digits", "corrupted")))

    def test_it_is_read_with_the_weights_of_the_best_validation_epoch(self, tmp_path: Path) -> None:
        config = tiny_config({**self.CHANGES, **self.PAIR})
        list(train_run(config, tmp_path / "run"))
        record = read_run(tmp_path / "run")
        scores = [row["target_val_top1"] for row in record.epochs]
        best = scores.index(max(scores)) + 1
        assert best < len(scores), "or else this test cannot fail: choose another seed"
        assert record.result["best_epoch"] == best
        assert record.result["target_val_top1"] == max(scores)
        target = Trainer(config).target
        target.network.load_state_dict(load_tensors(tmp_path / "run" / "best.safetensors")[0])
        assert target.evaluate("val")["top1"] == max(scores)
        expected = {f"target_test_{k}": v for k, v in target.evaluate("test").items()}
        assert expected == {key: record.result[key] for key in expected}


class TestUnequalRecipes:
    """11: a run whose transfer writes nothing is bitwise the baseline, epoch by epoch."""

    @pytest.mark.parametrize(
        "idle",
        [
            {"transfer.stop_fraction": 0.0},
            {"transfer.start_step": 10_000},
            {"transfer.stop_fraction": 0.0, "source.kind": "frozen"},
            {"transfer.stop_fraction": 0.0, "source.model.name": "tiny_cnn", "source.batch_size": 8},
            {"transfer.stop_fraction": 0.0, "transfer.adapter.kind": "full_matrix"},
            {"transfer.stop_fraction": 0.0, "transfer.pairs": [{"source": "3", "target": "9", "direction": "both"}]},
        ],
    )
    def test_an_idle_transfer_is_the_baseline(self, idle: dict[str, Any]) -> None:
        trainer, baseline = build(idle), build({"method": "none", "transfer.pairs": []})
        for a, b in zip(trainer.epochs(), baseline.epochs(), strict=True):
            assert same(weights(trainer), weights(baseline))
            for name, value in without_times(b.metrics).items():
                assert a.metrics[name] == value, name
        assert same(trainer.target.state_dict()["augmenting"], baseline.target.state_dict()["augmenting"])

    def test_before_its_first_transfer_a_run_is_the_baseline(self) -> None:
        trainer, baseline = build({"transfer.start_step": 4}), build({"method": "none"})
        steps(trainer, 4)
        steps(baseline, 4)
        assert same(weights(trainer), weights(baseline))
        for one in (trainer, baseline):
            one._step(4)
        assert not same(weights(trainer), weights(baseline))


class TestRandomStreams:
    """12: whatever the source is, the target starts from the same weights and sees the same batches."""

    SOURCES: ClassVar[tuple[dict[str, Any], ...]] = (
        {"method": "none"},
        {"source.seed": 77},
        {"source.model.name": "tiny_cnn"},
        {"source.batch_size": 7},
        {"source.kind": "frozen"},
        {"source.kind": "self", "transfer.pairs": [{"source": "3", "target": "0"}], "transfer.adapter.rank": 1},
        {"transfer.adapter.depth": 3, "transfer.t_cycle": 1},
        {"transfer.control": "noise"},
    )

    def seen(self, changes: dict[str, Any]) -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
        """Starting weights, batches, dropout masks of the target over an epoch and a half."""
        trainer = build(changes)
        start = weights(trainer)
        images: list[Tensor] = []
        masks: list[Tensor] = []
        trainer.target.network.register_forward_pre_hook(lambda _, inputs: images.append(inputs[0].clone()))
        dropout = trainer.target.network.get_submodule("8")
        dropout.register_forward_hook(lambda _, inputs, out: masks.append((out == 0) & (inputs[0] != 0)))
        steps(trainer, 10)
        return start, images, masks

    @pytest.mark.parametrize("other", SOURCES)
    def test_start_order_augmentation_and_dropout_are_bitwise_the_same(self, other: dict[str, Any]) -> None:
        start, images, masks = self.seen({})
        start2, images2, masks2 = self.seen(other)
        assert same(start, start2)
        assert len(images) == len(images2) == 10
        assert all(torch.equal(a, b) for a, b in zip(images, images2, strict=True))
        assert any(mask.any() for mask in masks)
        # an input that ReLU has zeroed shows no mask; of 160 entries nearly all do
        assert all((a == b).float().mean() > 0.9 for a, b in zip(masks, masks2, strict=True))

    def test_the_source_does_not_see_the_target_either(self) -> None:
        pairs = [{"source": "3", "target": "5"}]
        other = {"target.model.name": "tiny_mlp", "target.seed": 3, "target.batch_size": 8, "transfer.pairs": pairs}
        trainers = [build(), build({**other, "transfer.t_cycle": 1, "transfer.adapter.rank": 2, "epochs": 1})]
        for trainer in trainers:
            trainer.total_steps = 14  # batches of 8 make an epoch of 14 steps; the source's schedule must not differ
            trainer.steps_per_epoch = 7
        for trainer in trainers:
            steps(trainer, 10)
        assert same(*(trainer.learners[1].network.state_dict() for trainer in trainers))

    def test_the_surroundings_draws_do_not_matter(self) -> None:
        quiet, noisy = build(), build()
        for step in range(5):
            quiet._step(step)
            torch.manual_seed(step)
            torch.rand(os.getpid() % 7 + 1)
            noisy._step(step)
        assert same(weights(quiet), weights(noisy))


class TestBlindFactor:
    """13: the basis of a source's start shows a random R / m of what it learns; the one that follows, most of it."""

    RANK: ClassVar[int] = 4
    ROWS: ClassVar[int] = 16
    DATA: ClassVar[dict[str, Any]] = {"name": "digits", "image_size": 8, "train_fraction": 0.5, "val_fraction": 0.05}
    CHANGES: ClassVar[dict[str, Any]] = {
        "epochs": 8,
        "transfer.pairs": [{"source": "1", "target": "1"}],
        "transfer.t_cycle": 4,
        "target.model.name": "tiny_mlp",
        "target.data": DATA,
        "source.data": DATA,
        "source.optimizer.weight_decay": 0.0,
        "transfer.adapter.rank": RANK,
    }

    def trained(self, basis: str, kind: str = "lpka") -> tuple[Trainer, list[dict[str, float]]]:
        trainer = build({**self.CHANGES, "transfer.adapter.source_basis": basis, "transfer.adapter.kind": kind})
        return trainer, [result.metrics for result in trainer.epochs()]

    @pytest.mark.parametrize("kind", ["lpka", "linear"])
    def test_the_basis_that_follows_shows_what_was_learned_and_that_of_the_start_a_random_part(self, kind: str) -> None:
        rows = {basis: self.trained(basis, kind)[1] for basis in ("current", "start")}
        part = self.RANK / self.ROWS
        assert rows["start"][-1]["source_change_share"] == pytest.approx(part, abs=0.08)
        assert rows["current"][-1]["source_change_share"] > 0.6 > 2 * part
        assert rows["current"][-1]["source_share"] > rows["start"][-1]["source_share"] + 0.2

    def test_what_is_logged_is_the_share_at_the_last_transfer(self) -> None:
        """Computed here again, from the weight as it was shown and as it started."""
        trainer, rows = self.trained("current")
        (link,) = trainer.transfer.links
        other = build(self.CHANGES)
        start = other.learners[1].network.get_parameter("1.weight").detach().clone()
        steps(other, max(other.transfer.updates(other.transfer.links[0])))
        weight = other.learners[1].network.get_parameter("1.weight").detach()
        basis = link.giver.state_dict()["encoding"]["basis"]
        for name, matrix in (("source_share", weight), ("source_change_share", weight - start)):
            expected = (basis.T @ matrix).square().sum() / matrix.square().sum()
            assert rows[-1][name] == pytest.approx(expected.item(), rel=1e-4)
        best = torch.linalg.svdvals(weight).square()
        assert rows[-1]["source_share"] >= 0.97 * (best[: self.RANK].sum() / best.sum()).item()

    def test_shares_are_logged_from_the_first_transfer_and_of_a_change_from_the_first_change_on(self) -> None:
        trainer = build({**self.CHANGES, "transfer.start_step": 2, "transfer.t_cycle": 2})
        names = {"source_share", "source_change_share"}
        steps(trainer, 2)
        assert not names & trainer.transfer.metrics().keys()
        steps(trainer, 3, 2)
        assert names <= trainer.transfer.metrics().keys()
        at_once = build(self.CHANGES)
        at_once._step(0)
        assert names & at_once.transfer.metrics().keys() == {"source_share"}

    def test_all_is_shown_of_a_whole_matrix_and_nothing_told_where_no_source_is_shown(self) -> None:
        assert self.shares({"transfer.adapter.kind": "full_matrix"}) == {"source_share": 1.0}
        assert self.shares({"transfer.adapter.encoding": "factorized"}) == {"source_share": 1.0}
        assert self.shares({"transfer.control": "none"}) == {}

    def shares(self, changes: dict[str, Any]) -> dict[str, float]:
        trainer = build({**self.CHANGES, **changes})
        steps(trainer, 5)
        return {name: value for name, value in trainer.transfer.metrics().items() if name.endswith("_share")}
