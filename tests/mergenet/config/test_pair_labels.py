"""Pairs in a word are read wherever pairs are asked for, and mean what they are shown for."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergenet.config import Config, PairConfig
from mergenet.config.loading import load_config
from mergenet.config.pair_labels import ARROWS, KEYS, are_pairs, pairs_label, pairs_of
from mergenet.errors import ConfigError

NAMES = st.from_regex(r"[a-z_][a-z0-9_.*?\[\]]{0,12}", fullmatch=True)
PAIRS = st.lists(
    st.fixed_dictionaries(
        {"source": NAMES, "target": NAMES},
        optional={
            "direction": st.sampled_from(list(ARROWS)),
            "every": st.integers(1, 99),
            "align": st.sampled_from(["inputs", "outputs", "none"]),
        },
    ),
    min_size=1,
    max_size=3,
)


@given(PAIRS)
def test_what_tables_show_is_read_as_what_it_stands_for(pairs: list[dict[str, Any]]) -> None:
    assert are_pairs(pairs)
    read = [PairConfig.model_validate(pair) for pair in pairs_of(pairs_label(pairs))]
    assert read == [PairConfig.model_validate(pair) for pair in pairs]


def test_the_keys_are_those_of_a_pair() -> None:
    assert set(PairConfig.model_fields) == KEYS


def test_a_configuration_takes_words_in_every_place_of_pairs() -> None:
    both = load_config("digits", ["transfer.pairs=fc>classifier.1 + conv1<>features.1 (every 16; align none)"])
    listed = load_config(
        "digits",
        [
            "transfer.pairs=[fc>classifier.1, {source: conv1, target: features.1, direction: both}]",
            "transfer.pairs.1.every=16",
            "transfer.pairs.1.align=none",
        ],
    )
    assert both == listed
    assert both.transfer.written_pairs[1].direction == "both"
    one = load_config("digits", ["transfer.pairs=fc>classifier.1", "transfer.pairs.0.every=16"]).transfer
    assert one.written_pairs[0].every == 16
    values = {"transfer": {"pairs": "fc<classifier.1"}, "epochs": 1}
    assert Config.model_validate(values).transfer.written_pairs[0].direction == "to_source"
    assert load_config("digits", ["transfer.pairs=auto"]).transfer.pairs == "auto"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a>b>c",
            "transfer.pairs must be read as SOURCE>TARGET, SOURCE<TARGET or SOURCE<>TARGET, got 'a>b>c'; for exam",
        ),
        ("a>", "got 'a>'; for example fc>head"),
        ("a>b (often)", "got 'a>b (often)'"),
        ("[a>b, '>c']", "got '>c'"),
        ("a>b (every 7)", "transfer.pairs.0.every must be a multiple of t_cycle (4), got 7"),
        ("a>b (align up)", "transfer.pairs.0.align must be one of auto, inputs, none, outputs, got 'up'"),
        ("atuo", "transfer.pairs must be one of auto, got 'atuo'; did you mean auto?"),
    ],
)
def test_a_word_that_is_no_pair_is_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("digits", [f"transfer.pairs={text}"])
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
