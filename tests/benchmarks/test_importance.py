import json

import pytest

from analysis.importance.evaluators import EVALUATORS
from benchmarks import importance


def test_the_figures_are_of_simulated_sweeps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importance, "EFFECTS", (6.0,))
    for name, one in list(EVALUATORS.items()):
        monkeypatch.setitem(EVALUATORS, name, one._replace(permutations=29, resamples=3))
    importance.main(["--trials", "30", "--sweeps", "1", "--json"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    assert figures["effect 6"]["PED-ANOVA finds the gate"] == 1
    assert figures["effect 6"]["fANOVA finds the gate"] == 1
    assert (figures["trials"], figures["sweeps"]) == (30, 1)


def test_too_few_trials_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importance.main(["--trials", "5"])
    assert "--trials must be at least 10, got 5" in capsys.readouterr().err
