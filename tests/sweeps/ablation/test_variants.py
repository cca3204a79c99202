"""Which variants an ablation has, what they change, and what is no variant and why."""

import pytest

from mergenet.config.choices import PUBLISHED
from mergenet.errors import ConfigError
from sweeps.ablation.centre import factors, load_centre, parse_values
from sweeps.ablation.plan import as_sweep, check_reference, too_large
from sweeps.ablation.variants import as_record, build_variants, folder_name, from_record, training_key
from sweeps.config.loading import dump_sweep
from tests.sweeps.ablation.ablations import ablation_of, centre_of
from tests.sweeps.base import CONV, HEAD, base_config, sweep_config

TRANSFER = {"t_cycle": 2, "pairs": [CONV, HEAD], "adapter": {"rank": 4}}


def found(components=True, centre=None, **keys):
    """Label -> changes of the variants beside the centre, and label -> reason of what is left out."""
    spec = ablation_of(components=components, **keys)
    variants, left_out = build_variants((centre or centre_of()).config, spec)
    assert variants[0].label == "centre" and variants[0].changes == {}
    return {one.label: one.changes for one in variants[1:]}, {one.label: one.reason for one in left_out}


def test_the_components_of_an_attention_over_two_pairs():
    variants, left_out = found(centre=centre_of(transfer=TRANSFER))
    pairings = ["row_row", "row_column", "column_row", "column_column"]
    assert list(variants) == [
        "no transfer", "no gate", "no RMS matching", "source shuffled", "noise for the source", "no source",
        "full_matrix", *(f"without pairing {name}" for name in pairings),
        "without pair layer3.0.conv2>features.5.conv.2", "without pair fc>classifier.1",
        "update delta, whole cycle", "update gradient", *(f"distillation {method}" for method in PUBLISHED),
    ]  # fmt: skip
    assert variants["no gate"] == {"transfer.adapter.gate": 1.0, "transfer.adapter.learned_gate": False}
    assert variants["without pairing row_column"] == {
        "transfer.adapter.pairings": ["row_row", "column_row", "column_column"]
    }
    (kept,) = variants["without pair fc>classifier.1"]["transfer.pairs"]
    assert (kept["source"], kept["target"]) == ("layer3.0.conv2", "features.5.conv.2")
    assert left_out == {"update delta": "it is the centre"}


def test_each_variant_is_the_centre_but_for_what_it_changes():
    variants, _ = build_variants(centre_of(transfer=TRANSFER).config, ablation_of())
    centre = variants[0].config
    assert (centre["seed"], centre["source"]["seed"], centre["target"]["seed"]) == (1, 0, None)
    for one in variants[1:]:
        changed = {path.split(".")[0] for path in one.changes}
        assert {key for key in centre if centre[key] != one.config[key]} == changed, one.label
    assert len({training_key(one.checked) for one in variants}) == len(variants), "no two train the same"
    assert len({one.name for one in variants}) == len(variants)


def test_what_a_centre_has_not_cannot_be_taken_out():
    adapter = {"rank": 4, "kind": "linear", "gate": 1.0, "rms_match": False}
    centre = centre_of(transfer={"t_cycle": 2, "pairs": [HEAD], "adapter": adapter})
    _, left_out = found(centre=centre)
    assert left_out["no gate"] == left_out["no RMS matching"] == "it is the centre"
    assert left_out["without pairing row_row"] == "it is the only pairing of this adapter"
    assert left_out["without pair fc>classifier.1"] == "it is the only pair; without it there is no transfer"


def test_a_rule_of_the_configuration_is_the_reason():
    adapter = {"rank": 4, "encoding": "factorized"}
    centre = centre_of(transfer={"t_cycle": 2, "pairs": [CONV], "adapter": adapter})
    _, left_out = found(centre=centre)
    assert left_out["full_matrix"] == (
        "transfer.adapter.encoding must be projected for kind full_matrix, got 'factorized'"
    )


def test_distillation_that_does_not_apply_is_left_out_with_the_rule():
    frozen = base_config().source.model_dump(mode="json") | {"kind": "frozen"}
    variants, left_out = found(centre=centre_of(source=frozen))
    assert {"distillation rkd", "distillation pkt", "distillation spkd"} <= variants.keys(), "they compare features"
    assert left_out["distillation kd"].startswith("source.model.weights must name a file for source.kind frozen")


def test_a_distilled_centre_has_other_methods_with_their_published_settings_and_no_transfer_components():
    centre = centre_of(method="kd", distillation={"temperature": 2.0})
    variants, left_out = found(centre=centre)
    assert list(variants) == ["no transfer", *(f"distillation {method}" for method in PUBLISHED)]
    assert variants["distillation dkd"] == {"distillation": {}, "method": "dkd"}
    assert left_out == {"components of the transfer": "the centre's method is kd, which has none"}


def test_one_factor_at_a_time_without_the_centres_own_value():
    values = {"transfer.t_cycle": [1, 2, 4], "transfer.adapter.rank": [8]}
    variants, left_out = found(False, values=values)
    assert variants == {
        "t_cycle 1": {"transfer.t_cycle": 1},
        "t_cycle 4": {"transfer.t_cycle": 4},
        "rank 8": {"transfer.adapter.rank": 8},
    }
    assert left_out == {"t_cycle 2": "it is the centre"}


def test_a_factor_that_equals_a_component_is_one_variant():
    _, left_out = found(values={"transfer.control": ["noise"]})
    assert left_out["control noise"] == "it trains the same as noise for the source"


def test_settings_that_the_method_does_not_use_make_no_variant():
    """With whole matrices there is no rank."""
    centre = centre_of(transfer={"t_cycle": 2, "pairs": [HEAD], "adapter": {"rank": 4, "kind": "full_matrix"}})
    _, left_out = found(False, centre=centre, values={"transfer.adapter.rank": [2, 8], "transfer.t_cycle": [4]})
    assert left_out == {"rank 2": "it is the centre", "rank 8": "it is the centre"}


def test_interactions_are_all_combinations_that_change_both():
    values = {"transfer.t_cycle": [2, 4], "transfer.adapter.gate": [0.1, 0.5]}
    variants, _ = found(False, values=values, interactions=[["transfer.t_cycle", "transfer.adapter.gate"]])
    assert list(variants) == ["t_cycle 4", "gate 0.5", "t_cycle 4, gate 0.5"]


def test_factors_with_the_same_last_name_are_told_apart():
    variants, _ = found(False, values={"source.optimizer.lr": [0.01], "target.optimizer.lr": [0.01]})
    assert list(variants) == ["source.optimizer.lr 0.01", "target.optimizer.lr 0.01"]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("transfer.t_cycle", (1, 4)),  # 2
        ("transfer.adapter.gate", (0.05, 0.2)),  # 0.1
        ("transfer.adapter.rms_match", (False,)),
        ("transfer.update.rule", ("gradient",)),
        ("transfer.adapter.kind", ("full_matrix", "linear")),
        ("target.model.stem", ("imagenet",)),
    ],
)
def test_values_of_a_factor_are_neighbours_of_the_centres(path, values):
    assert factors(centre_of(), [path], {}, False) == {path: values}


def test_values_of_a_factor_that_a_sweep_searched_are_the_sweeps():
    search = {
        "transfer.t_cycle": {"choice": [4, 8, 16]},
        "transfer.adapter.rank": {"int": [4, 16], "log": True},
        "transfer.adapter.gate": {"float": [0.02, 0.5], "log": True},
        "transfer.adapter.depth": {"int": [1, 5], "step": 2},
        "transfer.start_step": {"int": [0, 14], "step": 4},
        "transfer.pairs": {"layers": {"source": "layer3.*", "target": "features.*"}},
    }
    base = centre_of()
    centre = type(base)(base.config, base.name, dict(sweep_config(search).search))
    assert factors(centre, [], {"transfer.t_cycle": [1]}, True) == {
        "transfer.t_cycle": (1,),
        "transfer.adapter.rank": (4, 8, 16),
        "transfer.adapter.gate": (0.02, 0.1, 0.5),
        "transfer.adapter.depth": (1, 3, 5),
        "transfer.start_step": (0, 8, 12),
    }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "transfer.adapter.width",
            r"transfer.adapter.width must get its values, got a factor that is null at the centre; add .*--values",
        ),
        ("epochs", r"factors \(--factors\) must not hold epochs, which all variants share; change the centre with"),
        ("transfer.t_cicle", r"factors \(--factors\): transfer.t_cicle .*did you mean transfer.t_cycle"),
    ],
)
def test_factors_that_cannot_be_varied_say_why(path, message):
    with pytest.raises(ConfigError, match=message):
        factors(centre_of(), [path], {}, False)


def test_values_are_read_as_yaml():
    assert parse_values("transfer.t_cycle=1,4, 16") == ("transfer.t_cycle", [1, 4, 16])
    assert parse_values("transfer.adapter.width=null,64") == ("transfer.adapter.width", [None, 64])
    assert parse_values("transfer.adapter.pairings=[row_row]") == ("transfer.adapter.pairings", [["row_row"]])
    with pytest.raises(ConfigError, match="--values must be PATH=VALUE,VALUE, got 'rank'; for example"):
        parse_values("rank")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seeds": 1}, "seeds must be a whole number from 2 to 100, got 1; an ablation pairs seeds, and a difference"),
        ({"seeds": "8"}, "seeds must be a whole number from 2 to 100, got '8'"),
        ({"components": False}, "values must name a factor where components is false, got an empty mapping"),
        ({"interactions": [["rank", "gate"]]}, "interactions must be one of , got 'rank'"),
        ({"sedes": 3}, "sedes must be one of .*did you mean seeds"),
        ({"budget_hours": 0}, "budget_hours: input should be greater than 0, got 0"),
    ],
)
def test_bad_settings_are_one_line(keys, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ablation_of(**{"components": True, **keys})
    assert "\n" not in str(caught.value)


def test_nothing_to_compare_is_an_error():
    variants, _ = build_variants(centre_of().config, ablation_of(values={"transfer.t_cycle": [2]}))
    with pytest.raises(ConfigError, match="must have a variant beside its centre, got none: all that was proposed"):
        check_reference(variants)


def test_a_centre_that_is_no_file_sweep_or_preset(tmp_path):
    with pytest.raises(ConfigError, match="must be a sweep folder, a YAML file or a preset to have a centre"):
        load_centre(str(tmp_path))
    with pytest.raises(ConfigError, match="the preset must be one of"):
        load_centre("nowhere")


def test_adapters_that_no_memory_holds_are_left_out_before_they_are_built():
    assert too_large(centre_of().config, 2) == ""
    whole = {"t_cycle": 2, "pairs": [CONV], "adapter": {"kind": "full_matrix", "mlp_ratio": 1e9}}
    assert "parameters, which take " in too_large(centre_of(transfer=whole).config, 2)


def test_folder_names_are_plain_unique_and_never_those_of_another_seed():
    assert folder_name("without pair a>b + c", set()) == "without-pair-a-b-c"
    assert folder_name("t_cycle 4", {"t_cycle-4"}) == "t_cycle-4.2"
    assert "-seed-" not in folder_name("cycle 4, seed 2", set())


def test_a_record_of_variants_comes_back_and_a_damaged_one_is_one_line():
    variants, left_out = build_variants(centre_of().config, ablation_of())
    assert from_record(as_record(variants, left_out), "variants.json") == (variants, left_out)
    for damaged in (None, {}, {"variants": [], "left_out": []}, {"variants": [{"name": "x"}], "left_out": []}):
        with pytest.raises(ConfigError, match=r"variants\.json must hold the variants of the ablation") as caught:
            from_record(damaged, "variants.json")
        assert "\n" not in str(caught.value)


def test_the_slots_see_a_sweep_that_could_draw_the_variants():
    variants, _ = build_variants(centre_of().config, ablation_of(seeds=5))
    sweep = as_sweep(ablation_of(seeds=5), variants)
    assert (sweep.num_trials, sweep.seeds_per_trial, sweep.confirm_seeds) == (len(variants), 5, 0)
    assert sweep.search["method"].choice == ("mergenet", "none", *PUBLISHED)
    assert "transfer.control" in dump_sweep(sweep)
