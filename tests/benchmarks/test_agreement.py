"""The rank agreement of a sweep's epochs, from its records."""

import json
from pathlib import Path

import pytest

from benchmarks import agreement
from tests.sweeps.folders import planned, write_sweep
from tests.sweeps.spaces import GATE, GATES


def test_agreement_is_over_the_best_so_far_of_whole_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Best so far: 0.1, 0.4, 0.3 against 0.2, 0.4, 0.5; one of three pairs is the other way round: rho = 0.5."""
    trials = [({GATE: 0.2}, [0.1, 0.2]), ({GATE: 0.3}, [0.4, 0.0]), ({GATE: 0.4}, [0.3, 0.5])]
    stopped = ({GATE: 0.5}, [0.9], "pruned")
    folder = write_sweep(tmp_path / "sweep", planned(tmp_path, GATES), [*trials, stopped])
    agreement.main([str(folder), "--json"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["figures"]
    assert figures["agreement"] == pytest.approx([0.5, 1.0])
    assert figures["trials"] == 3
    fewer = write_sweep(tmp_path / "fewer", planned(tmp_path, GATES), [*trials[:2], stopped])
    with pytest.raises(SystemExit):
        agreement.main([str(fewer)])
    assert "must hold at least 3 trials that trained to their end, got 2" in capsys.readouterr().err
