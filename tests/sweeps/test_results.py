"""The best of the trials, and which test metric goes with which validation metric."""

from typing import Any

import sweeps.results as results


def trial(number: int, value: float | None, parameters: int = 10, finished: bool = True) -> dict[str, Any]:
    return {"number": number, "value": value, "finished": finished, "adapter_parameters": parameters}


def test_of_equals_the_one_with_fewer_adapter_parameters_then_the_earlier() -> None:
    trials = [trial(0, 0.5), trial(1, 0.6, 20), trial(2, 0.6, 10), trial(3, 0.6, 10), trial(4, 0.9, finished=False)]
    assert results.best_trial(trials, "max") == trials[2]
    assert results.best_trial(trials, "min") == trials[0]
    assert results.best_trial([trial(0, None), trial(1, 0.5, finished=False)], "max") is None


def test_the_test_metric_is_that_of_the_validation_metric() -> None:
    assert results.test_metric("target_val_top1") == "target_test_top1"
    assert results.test_metric("target_val_iou") == "target_test_iou"
