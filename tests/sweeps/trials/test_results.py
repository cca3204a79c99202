"""The best of the trials."""

from typing import Any

import sweeps.trials.results as results


def trial(number: int, value: float | None, parameters: int = 10, finished: bool = True) -> dict[str, Any]:
    return {"number": number, "value": value, "finished": finished, "adapter_parameters": parameters}


def test_of_equals_the_one_with_fewer_adapter_parameters_then_the_earlier() -> None:
    trials = [trial(0, 0.5), trial(1, 0.6, 20), trial(2, 0.6, 10), trial(3, 0.6, 10), trial(4, 0.9, finished=False)]
    assert results.best_trial(trials, "target_val_em") == trials[2]
    assert results.best_trial(trials, "target_val_loss") == trials[0]
    assert results.best_trial([trial(0, None), trial(1, 0.5, finished=False)], "target_val_em") is None
