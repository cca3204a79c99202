import math

import pytest

from analysis.measures import amount, at_best_so_far, best_so_far, broken, excesses, measure, step_seconds


def row(epoch, seconds, **more):
    return {"epoch": epoch, "step": 10 * epoch, "seconds_target": seconds, "seconds_evaluate": 99.0, **more}


def test_seconds_of_a_step_are_the_median_over_epochs_without_validation():
    rows = [row(1, 8.0), row(2, 2.0, seconds_source=1.0, seconds_transfer=0.5, seconds_adapter=0.5), row(3, 3.0)]
    assert step_seconds(rows[:1]) == 0.8
    assert step_seconds(rows) == 0.4
    assert step_seconds([]) is None
    assert step_seconds([{"epoch": 1, "target_val_top1": 0.5}]) is None, "a record without steps"


@pytest.mark.parametrize(
    ("name", "value", "plain", "signed"),
    [
        ("target_val_top1", 0.012345, "1.23", "+1.23"),
        ("target_val_loss", 0.0000123456, "1.235e-05", "+1.235e-05"),
        ("target_test_loss", 1.23456, "1.235", "+1.235"),
        ("step_seconds", 0.000456789, "0.0004568", "+0.0004568"),
        ("adapter_parameters", 1234567, "1234567", "+1234567"),
    ],
)
def test_fractions_are_shown_in_percent_and_losses_with_four_digits(name, value, plain, signed):
    assert (amount(name, value), amount(name, value, "+")) == (plain, signed)


def test_what_is_measured_of_a_run():
    rows = [
        row(1, 1.0, target_val_top1=0.5, target_val_loss=2.0, adapter_parameters=7.0),
        row(2, 1.0, target_val_top1=0.6, target_val_loss=3.0, adapter_parameters=7.0),
        row(3, 1.0, target_val_top1=0.6, target_val_loss=1.0, adapter_parameters=7.0),
    ]
    assert measure("adapter_parameters", rows, "target_val_top1") == 7
    assert measure("adapter_parameters", [row(1, 1.0)], "target_val_top1") == 0, "without an adapter"
    assert measure("target_val_loss", rows, "target_val_top1") == 3.0, "at the first best epoch by the metric"
    assert measure("target_val_top1", rows, "target_val_top1") == 0.6
    assert measure("target_val_loss", [], "target_val_top1") is None


def test_another_measure_counts_at_the_first_best_epoch_so_far():
    values = [(0.5, 2.0), (math.nan, 0.1), (0.6, 3.0), (0.6, 1.0), (0.4, 0.5)]
    rows = [row(n, 1.0, target_val_top1=a, target_val_loss=b) for n, (a, b) in enumerate(values, start=1)]
    assert at_best_so_far(rows, "target_val_loss", "target_val_top1") == {1: 2.0, 3: 3.0, 4: 3.0, 5: 3.0}
    for metric in ("target_val_top1", "target_val_loss"):
        assert at_best_so_far(rows, metric, metric) == best_so_far(rows, metric)


def test_an_epoch_without_a_number_is_never_the_best():
    rows = [row(n, 1.0, target_val_top1=value, target_val_loss=n) for n, value in ((1, math.nan), (2, 0.5), (3, 0.4))]
    assert measure("target_val_loss", rows, "target_val_top1") == 2
    assert measure("target_val_loss", rows[:1], "target_val_top1") is None


@pytest.mark.parametrize(
    ("limits", "value", "excess"),
    [
        ({"max": 1000}, 1500, 0.5),
        ({"max": 1000}, 1000, 0.0),
        ({"max": 1000}, 500, -0.5),
        ({"min": 0.5, "max": None}, 0.4, 0.2),
        ({"max": 0}, 3, 3.0),
        ({"max": -2.0}, -1.0, 0.5),
        ({"max": 1}, None, math.inf),
        ({"max": 1}, math.nan, math.inf),
    ],
)
def test_excesses_are_in_parts_of_the_bound(limits, value, excess):
    assert list(excesses({"a": limits}, {"a": value}).values()) == [pytest.approx(excess)]
    assert bool(broken({"a": limits}, {"a": value})) == (excess > 0)


def test_rules_name_bounds_as_they_were_written():
    found = excesses({"a": {"min": 1, "max": 2.5}, "b": {"max": 100000}}, {"a": 2, "b": 1})
    assert list(found) == ["a >= 1", "a <= 2.5", "b <= 100000"]
