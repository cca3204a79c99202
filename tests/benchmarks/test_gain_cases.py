"""The cases of benchmarks.gains: every variant that transfers can be built before hours are spent on the others."""

from pathlib import Path

import pytest

from benchmarks.gain_cases import CASES, PLAIN, Case
from mergenet.layers.candidates import both_candidates
from mergenet.layers.spaces import columns_of
from mergenet.transfer.encodings import has_rank
from mergenet.transfer.pairs import with_alignment

TAUGHT = [case for case in CASES.values() if not case.ready]


@pytest.mark.parametrize("case", TAUGHT, ids=[case.name for case in TAUGHT])
def test_the_rank_of_every_variant_fits_its_layers(case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Case, "taught", lambda *_: tmp_path / "teacher.safetensors")
    for name in [name for name in case.variants if name not in ("none", *PLAIN, *case.methods)]:
        config = with_alignment(case.config(name, 0, tmp_path))
        sources, targets = ({layer.name: layer for layer in side} for side in both_candidates(config))
        for pair in config.transfer.written_pairs:
            limits = [sources[pair.source].largest_rank_in(columns_of(pair))]
            if has_rank(config.transfer.adapter, gives=False):
                limits.append(targets[pair.target].largest_rank_in(columns_of(pair)))
            assert config.transfer.adapter.rank <= min(limits), name
