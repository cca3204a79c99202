"""config.yaml is read as PyYAML reads it, whatever it holds."""

import string
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mergenet.config import Config
from mergenet.config.loading import dump_yaml
from mergenet.records.quick import yaml as module
from mergenet.records.quick.yaml import quick_yaml

WORDS = [
    *("1", "0", "-0", "-3", "+3", "010", "0o7", "0x1f", "1_000", "1:30", "190:20:30", "12345678901234567890"),
    *("0.5", "-0.5", "1.", ".5", "1e-3", "1.0e-3", "1e3", "0.1.2", "1.5e+300", "9.9e999", ".inf", "-.inf", ".nan"),
    *(
        "null",
        "~",
        "Null",
        "true",
        "False",
        "yes",
        "off",
        "y",
        "NO",
        "on",
        "2024-01-01",
        "2024-13-45",
        "2024-01-01T1:2:3",
    ),
    *("a", "word", "trial-003", "a.b:c", "a:b:", "/tmp/x", "http://x/y", "_", "-", "--", "---", "...", "=", "<<", "?"),
    *(
        "'1'",
        "'off'",
        "'a b'",
        "''",
        '"x"',
        '"\\ud800"',
        "'it''s'",
        "&a",
        "*a",
        "&a- 1",
        "!!str 1",
        "!!binary aGk=",
        "!x",
    ),
    *(
        "[1, 2]",
        "[a: b]",
        "{a: 1}",
        "[",
        "{",
        "|",
        ">",
        "- 1",
        "a: b",
        "größe",
        "x # y",
        "#",
        "mergenet-word-0-",
        "@",
        "%",
    ),
]
HEADS = [
    "",
    "a: ",
    "b: ",
    "a:",
    "- ",
    "  - ",
    "  c: ",
    "  d:",
    "- a: ",
    "? ",
    ": ",
    "    ",
    "1: ",
    "yes: ",
    "# x: ",
    "'k': ",
]
lines = st.builds("{}{}".format, st.sampled_from(HEADS), st.sampled_from(WORDS))
texts = st.builds(
    "{}{}".format, st.lists(lines, max_size=8).map("\n".join), st.sampled_from(["", "\n", "\r\n", " \n", "\n...\n"])
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(string.ascii_letters, max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


def outcome(load: Any, data: bytes) -> str:
    try:
        return repr(load(data))
    except (ValueError, RecursionError, yaml.YAMLError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"


def check(data: bytes) -> None:
    """Twice: the second time the shape is known."""
    whole = outcome(yaml.safe_load, data)
    assert [outcome(quick_yaml, data) for _ in range(2)] == [whole, whole]


@settings(max_examples=400, deadline=None)
@given(texts)
@example("a: 1\na: 2\n")
@example("a: word\n  goes on\n")
@example("a: |\n  b: word\n")
@example("- &a- 1\n- *a-\n")
@example("# a: word\n")
@example("{a: word\n}\n")
@example("--- 5\n")
@example("a: mergenet-word-0-\nb: 1\n")
@example("? - word\n: 1\n")
@example("<<: word\n")
def test_any_text_has_the_value_that_pyyaml_gives_it(text: str) -> None:
    check(text.encode())


@settings(max_examples=200, deadline=None)
@given(values)
def test_what_was_written_comes_back(value: Any) -> None:
    check(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode("utf-8", errors="surrogatepass"))


@pytest.mark.parametrize(
    "data", [b"a: \xff\n", "a: 1\n".encode("utf-16"), b"\xef\xbb\xbfa: 1\n", b"a: \x00\n", b"a: 1\r\nb: x\r\n"]
)
def test_other_encodings_and_line_ends(data: bytes) -> None:
    check(data)


def test_the_configurations_of_a_sweep_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[object] = []
    load = yaml.safe_load
    monkeypatch.setattr(module.yaml, "safe_load", lambda text: parsed.append(text) or load(text))
    module._shape.cache_clear()
    module._cut.cache_clear()
    module._word.cache_clear()
    for number in range(20):
        adapter = {"rank": number + 1, "gate": 0.1 + number / 100}
        values = {
            "name": f"trial-{number:03d}",
            "transfer": {"pairs": [{"source": "1", "target": "1"}], "adapter": adapter},
        }
        config = Config.model_validate(values)
        assert quick_yaml(dump_yaml(config).encode()) == config.model_dump(mode="json")
    assert sum(len(str(text)) > 100 for text in parsed) == 1, "the shape"
    assert len(parsed) < 20, "and the words that may be something else"
