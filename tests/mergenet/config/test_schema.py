"""Configurations: every file, option or value gives a Config or clear lines, and a Config survives the trip to YAML."""

import copy
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mergenet.config import Config, choices
from mergenet.config.json_schema import child, node_at, resolve, root
from mergenet.config.loading import dump_yaml, field_table, load_config, parse_config, set_by_path
from mergenet.config.preset_names import presets
from mergenet.config.rules import shown
from mergenet.config.yaml12 import dump_yaml_values, load_yaml
from mergenet.errors import ConfigError, unknown_name

PAIR = {"source": "layer3.0.conv2", "target": "features.5.conv.2"}
NO_TAGS = "x.yaml must have no YAML anchors, aliases or tags, got one on line 1"
NO_NODE = "expected the node content, but found '<stream end>'"
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def problems(values: dict, origin: str = "x.yaml") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(values, origin)
    return str(caught.value).splitlines()


def plain(**values: object) -> dict:
    return {"method": "none", **values}


# ---------------------------------------------------------------- strategies from the schema


def scalars(node: dict) -> st.SearchStrategy:
    """Valid values of one setting, bounds and all."""
    inner = resolve(node)
    if "enum" in inner:
        values = st.sampled_from(inner["enum"])
    elif inner["type"] == "boolean":
        values = st.booleans()
    elif inner["type"] == "integer":
        values = st.integers(inner.get("minimum", 0), min(inner.get("maximum", 2**31), 2**31))
    elif inner["type"] == "number":
        low, high = (
            inner.get("minimum", inner.get("exclusiveMinimum")),
            inner.get("maximum", inner.get("exclusiveMaximum")),
        )
        values = st.floats(
            low,
            high,
            exclude_min="exclusiveMinimum" in inner,
            exclude_max="exclusiveMaximum" in inner,
            allow_nan=False,
            allow_infinity=False,
        )
    elif "pattern" in inner:
        values = st.from_regex(inner["pattern"], fullmatch=True).filter(lambda s: 0 < len(s) <= 100 and s.isprintable())
    else:
        values = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    return st.one_of(st.none(), values) if len(inner) and "anyOf" in node else values


def mappings(node: dict) -> st.SearchStrategy:
    """Valid values of a section; the rules that span settings may still refuse them."""
    inner = resolve(node)
    if inner.get("type") == "array":
        return st.lists(mappings(inner["items"]), min_size=inner.get("minItems", 0), max_size=3)
    if "properties" not in inner:
        return scalars(node)
    optional = {key: mappings(value) for key, value in inner["properties"].items()}
    required = {key: optional.pop(key) for key in inner.get("required", ())}
    return st.fixed_dictionaries(required, optional=optional)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PATHS = st.sampled_from([field.path for field in field_table()])


def check_outcome(parse: object) -> None:
    """A Config, or an error of whole single lines that say what must hold."""
    try:
        assert isinstance(parse(), Config)
    except ConfigError as error:
        message = str(error)
        assert message
        assert "Traceback" not in message
        assert "pydantic" not in message
        for line in message.split("\n"):
            assert " must " in line, line
            assert line.isprintable(), line
            assert len(line) < 900, line


# ---------------------------------------------------------------- fuzzing


@FUZZ
@given(mappings(root()))
def test_every_accepted_config_survives_the_trip_to_yaml(values: dict) -> None:
    values = {**values, "method": "none"}
    try:
        config = parse_config(values, "fuzz")
    except ConfigError:
        return
    text = dump_yaml(config)
    assert parse_config(load_yaml(text, "dump"), "dump") == config
    assert dump_yaml(parse_config(load_yaml(text, "dump"), "dump")) == text
    assert yaml.safe_load(text) == config.model_dump(mode="json")  # any YAML reader sees the same values


@FUZZ
@given(mappings(root()))
def test_values_within_the_schemas_bounds_break_only_rules_that_span_settings(values: dict) -> None:
    check_outcome(lambda: parse_config(values, "fuzz"))


@FUZZ
@given(PATHS, JUNK)
def test_any_value_anywhere_gives_a_config_or_clear_lines(path: str, junk: object) -> None:
    values = plain(transfer={"pairs": [dict(PAIR)]})
    set_by_path(values, path, junk)
    check_outcome(lambda: parse_config(values, "fuzz"))


@FUZZ
@given(st.lists(st.text(max_size=30) | st.builds("{}={}".format, PATHS, st.text(max_size=20)), max_size=3))
def test_any_overrides_give_a_config_or_clear_lines(overrides: list[str]) -> None:
    check_outcome(lambda: load_config("digits", overrides))


@FUZZ
@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda data: data.decode("latin-1")))
def test_any_text_gives_a_config_or_clear_lines(text: str) -> None:
    check_outcome(lambda: parse_config(load_yaml(text, "fuzz"), "fuzz"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_any_file_gives_a_config_or_clear_lines(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fuzz.yaml"
    path.write_bytes(content)
    check_outcome(lambda: load_config(str(path)))


@FUZZ
@example({"\x85": None})
@given(JUNK.filter(lambda v: v == v and "nan" not in repr(v)))
def test_any_plain_value_survives_the_trip_to_yaml(value: object) -> None:
    try:
        assert load_yaml(dump_yaml_values(value), "dump") == value
    except UnicodeEncodeError:  # lone surrogates are no text
        assert "\\ud" in repr(value)


# ---------------------------------------------------------------- reading YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5), ("-2", -2), ("010", 10), ("off", "off"), ("no", "no"),
        ("true", True), ("null", None), ("", None), ("2024-01-01", "2024-01-01"), ("1:30", "1:30"), ("0x1f", "0x1f"),
        ("'1'", "1"), ("1_000", "1_000"), (".inf", math.inf), ("<<: a", {"<<": "a"}), ("[1, off]", [1, "off"]),
    ],
)  # fmt: skip
def test_scalars_are_what_they_look_like(text: str, value: object) -> None:
    result = load_yaml(text, "x")
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml must give each key once, got 'a' again on line 3"),
        ("t: {a: 1, a: 2}", "x.yaml must give each key once, got 'a' again on line 1"),
        ("1: 2", "x.yaml must have text as keys, got another kind of key on line 1"),
        ("a: &b 1\nc: *b", NO_TAGS),
        ("a: !!python/object/apply:os.system [ls]", NO_TAGS),
        ("a: [", f"x.yaml must be valid YAML, got {NO_NODE} at line 1, column 5"),
        ("[" * 99_999, "x.yaml must nest at most 50 deep, got more on line 1"),
        ("? " * 99_999, "x.yaml must nest at most 50 deep, got more on line 1"),
        ("a: " + "9" * 5000, "x.yaml must hold numbers of at most 1000 digits, got 5000 on line 1"),
        ("x" * 300_000, "x.yaml must be at most 200 kB of YAML, got 300 kB"),
        ("a\x00b", "x.yaml must be valid YAML, got special characters are not allowed at position 1"),
        ("--- a\n--- b", "x.yaml must be valid YAML, got but found another document at line 2, column 1"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_yaml(text, "x.yaml")
    assert str(caught.value) == message


# ---------------------------------------------------------------- values and their messages


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"seed": -1}, "seed must be >= 0, got -1"),
        ({"seed": "1"}, "seed must be a whole number, got '1'"),
        ({"seed": True}, "seed must be a whole number, got True"),
        ({"seed": 2**40}, "seed must be <= 4294967295, got 1099511627776"),
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ({"threads": 5000}, "threads must be <= 1024, got 5000"),
        ({"deterministic": "yes"}, "deterministic must be true or false, got 'yes'"),
        ({"deterministic": 1}, "deterministic must be true or false, got 1"),
        ({"amp": "of"}, "amp must be one of bf16, fp16, off, got 'of'; did you mean off?"),
        ({"amp": False}, "amp must be one of 'off', 'bf16' or 'fp16', got False"),
        ({"name": 3}, "name must be text, got 3; write it in quotes"),
        ({"name": "x" * 200}, f"name must have at most 100 characters, got '{'x' * 56}..."),
        ({"name": "a/b"},
         "name must be letters, digits, dots, dashes and underscores, the first a letter or digit, got 'a/b'"),
        ({"device": "cuda:٣"}, "device must be auto, cpu, cuda or cuda:N, got 'cuda:٣'"),
        ({"target": None}, "target must be a mapping of settings, got None"),
        ({"source": [1]}, "source must be a mapping of settings, got [1]"),
        ({"target": {"optimizer": {"lr": "0.1abc"}}}, "target.optimizer.lr must be a number, got '0.1abc'"),
        ({"target": {"optimizer": {"lr": 0}}}, "target.optimizer.lr must be > 0, got 0"),
        ({"target": {"optimizer": {"lr": math.nan}}}, "target.optimizer.lr must be a finite number, got nan"),
        ({"target": {"optimizer": {"momentum": 1}}}, "target.optimizer.momentum must be < 1, got 1"),
        ({"target": {"optimizer": {"milestones": 3}}}, "target.optimizer.milestones must be a list, got 3"),
        ({"target": {"optimizer": {"milestones": [2]}}}, "target.optimizer.milestones.0 must be <= 1.0, got 2"),
        ({"source": {"data": {"root": ""}}},
         "source.data.root must be a path, not empty, without a null character and names of over 255, got ''"),
        ({"target": {"model": {"weights": f"a/{'x' * 300}"}}},
         "target.model.weights must be a path, not empty, without a null character and names of over 255, got "
         f"'a/{'x' * 54}..."),
        ({"transfer": {"t_cycle": 0}},
         "transfer.t_cycle must be >= 1, got 0; to train without transfer set method: none"),
        ({"transfer": {"pairs": [{"source": "a"}]}}, "transfer.pairs.0.target must be given, got nothing"),
        ({"transfer": {"adapter": {"pairings": []}}}, "transfer.adapter.pairings must have at least 1 item, got []"),
        ({"transfer.t_cycle": 5},
         "transfer.t_cycle must be nested in a file, got one key with dots; write `transfer: {t_cycle: ...}`"),
        ({"transfer": {"adapter.rank": 5}},
         "transfer.adapter.rank must be nested in a file, got one key with dots; write `adapter: {rank: ...}`"),
        ({"transfer.pairs.0.every": 5},
         "transfer.pairs.0.every must be nested in a file, got one key with dots; "
         "write `transfer: {pairs: [{every: ...}]}`"),
        ({"transfer.t_cycel": 5},
         "transfer.t_cycel must be a known setting, got an unknown name; did you mean transfer.t_cycle?"),
        ({"epoch": 3}, "epoch must be a known setting, got an unknown name; did you mean epochs?"),
        ({"target": {"lr": 1}},
         "target.lr must be a known setting, got an unknown name; did you mean target.optimizer.lr?"),
        ({"target": {"optimizer": {"nesterov": True, "momentum": 0}}},
         "target.optimizer.momentum must be above 0 with nesterov, got 0.0; or set nesterov: false"),
        ({"name": "\ud800"}, "the configuration must be plain Unicode text of moderate depth, got something else"),
    ],
)  # fmt: skip
def test_one_wrong_value_is_one_line(values: dict, line: str) -> None:
    assert problems(plain(**values)) == [f"{line} (in x.yaml)"]


def test_several_problems_are_several_lines() -> None:
    lines = problems(plain(seed=-1, epochs=0, transfer={"adapter": {"rank": 0}}))
    assert [line.split(" ")[0] for line in lines] == ["seed", "epochs", "transfer.adapter.rank"]


def test_rules_that_span_settings_keep_their_words() -> None:
    assert problems({}) == [
        "transfer.pairs must name at least one pair, got []; to train without transfer set method: none (in x.yaml)"
    ]
    values = {"transfer": {"t_cycle": 4, "pairs": [{**PAIR, "every": 6}]}}
    assert problems(values) == ["transfer.pairs.0.every must be a multiple of t_cycle (4), got 6 (in x.yaml)"]


@pytest.mark.parametrize("key", ["api_key", "WANDB_API_KEY", "token", "password", "client_secret"])
def test_a_secret_is_refused_and_never_shown(key: str) -> None:
    for values in (plain(**{key: "sk-123"}), plain(source={key: {"a": "sk-123"}}), plain(name={key: "sk-123"})):
        [line] = problems(values)
        assert "sk-123" not in line
    [line] = problems(plain(**{key: "sk-123"}))
    assert line == f"{key} must not be in a configuration; keys come from the environment or ~/.netrc only (in x.yaml)"
    with pytest.raises(ConfigError, match=r"environment or ~/\.netrc") as caught:
        load_config("digits", [f"{key}=sk-123"])
    assert "sk-123" not in str(caught.value)


def test_an_unknown_key_never_shows_its_value() -> None:
    assert "hunter2" not in problems(plain(wandb="hunter2"))[0]


@pytest.mark.parametrize(
    "value", ["a\nb" * 50, {"k": "secret"}, [[1] * 100], list(range(100)), "\x1b[31m", 10**200, ()]
)
def test_shown_values_are_short_and_on_one_line(value: object) -> None:
    text = shown(value)
    assert len(text) <= 60
    assert text.isprintable()
    assert "secret" not in text


# ---------------------------------------------------------------- overrides and paths


def test_overrides_apply_in_order_and_reach_into_lists() -> None:
    config = load_config(
        "digits", ["seed=1", "seed=2", "transfer.pairs.0.every=8", "target.optimizer.lr=1e-3", "amp=off"]
    )
    assert (config.seed, config.transfer.pairs[0].every, config.target.optimizer.lr) == (2, 8, 0.001)
    assert load_config("digits", ["target.seed="]).target.seed is None
    added = ["transfer.pairs.1.source=conv1", "transfer.pairs.1.target=features.0.0"]
    assert len(load_config("digits", added).transfer.pairs) == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("transfer.t_cycel=3",
         "transfer.t_cycel must be a known setting, got an unknown name; did you mean transfer.t_cycle?"),
        ("seed", "--set must be PATH=VALUE, got 'seed'; for example seed=1"),
        ("=3", "--set must be PATH=VALUE, got '=3'; for example seed=1"),
        ("seed.a=1", "seed.a must be a known setting, but seed has no settings inside"),
        ("transfer.pairs.x.every=1",
         "transfer.pairs.x must name an item of the list by its number, as in transfer.pairs.0"),
        ("transfer.pairs.7.every=1", "transfer.pairs.7 must be an item from 0 to 1 (the next), got no such item"),
        ("name=[", f"--set name must be valid YAML, got {NO_NODE} at line 1, column 2"),
        ("seed=abc", "seed must be a whole number, got 'abc' (in preset digits with --set)"),
    ],
)  # fmt: skip
def test_wrong_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("digits", [override])
    assert str(caught.value) == message


def test_set_by_path_works_on_dumped_configs_and_refuses_scalars_as_sections() -> None:
    values = load_config("digits").model_dump()  # pairs are a tuple here
    set_by_path(values, "transfer.pairs.0.every", 8)
    assert parse_config(values, "x").transfer.pairs[0].every == 8
    with pytest.raises(ConfigError, match=r"^target must be a mapping to set a value inside, got 3$"):
        set_by_path({"target": 3}, "target.seed", 1)


def test_a_mapping_changes_what_it_names_and_leaves_the_rest() -> None:
    before = load_config("digits")
    after = load_config("digits", ["target={batch_size: 48, optimizer: {lr: 0.01}}"])
    both = load_config("digits", ["target.batch_size=48", "target.optimizer.lr=0.01"])
    assert after == both != before
    with pytest.raises(ConfigError, match=r"^target\.optimizer\.lrr must be a known setting"):
        load_config("digits", ["target={optimizer: {lrr: 0.01}}"])


# ---------------------------------------------------------------- files and presets


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", f"the preset must be one of {', '.join(presets())}, got 'digit'; "
                  "did you mean digits?; a file's name ends in .yaml or has a / in it"),
        ("nowhere.yaml", f"nowhere.yaml must be an existing file; presets are {', '.join(presets())}"),
        ("quickstart", "the preset must be a configuration, got 'quickstart', which is a sweep; `mergenet sweep run "
                       "quickstart` runs it, and its base is 'shared-inputs'"),
        ("a\0/b", "'a\\x00/b' must be a readable file, got: embedded null byte"),
    ],
)  # fmt: skip
def test_names_that_lead_nowhere(name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(name)
    assert str(caught.value) == message


def test_a_sweep_file_is_told_from_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "my sweep.yaml"
    path.write_text("name: x\nbase: digits\nsearch: {seed: {choice: [1]}}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), ["seed=1"])
    assert str(caught.value) == (
        f"{path} must be a configuration, got a sweep file; `mergenet sweep run '{path}'` runs it, and its base is "
        "'digits'"
    )


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    for content, message in (
        (b"", "must be a mapping of settings, got None; an example: epochs: 10"),
        (b"- 1", "must be a mapping of settings, got [1]; an example: epochs: 10"),
        (b"a: \xff", "must be UTF-8 text, got another byte at position 3"),
        (b"#" * 300_000, "must be at most 200 kB of YAML, got a larger file"),
    ):
        path = tmp_path / "x.yaml"
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load_config(str(path))
        assert str(caught.value) == f"{path} {message}"
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match=r"must be a YAML file, got a folder; try .*/config\.yaml$"):
        load_config(f"{tmp_path}/")


def test_reading_a_configuration_needs_no_torch() -> None:
    code = "import sys, mergenet.config.loading as c; c.load_config('digits'); print([m in sys.modules for m in %r])"
    done = subprocess.run(
        [sys.executable, "-c", code % (("torch", "ray"),)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[False, False]"


# ---------------------------------------------------------------- the table of settings


def test_the_table_names_every_setting_once_and_each_is_described() -> None:
    table = field_table()
    assert len({field.path for field in table}) == len(table)
    values = load_config("digits").model_dump(mode="json")
    for field in table:
        assert field.description, field.path
        assert field.type, field.path
        assert node_at(field.path.split(".")) is not None
        here = values
        for key in field.path.split("."):
            here = here[int(key) if isinstance(here, list) else key]  # every row is a real value's place
    by_path = {field.path: field for field in table}
    assert by_path["transfer.adapter.gate"][1:3] == ("number > 0, <= 1", "0.1")
    assert by_path["source.model.name"].default == "resnet_small"
    assert by_path["method"].default == "mergenet"
    assert by_path["transfer.pairs.0.source"].default == "required"
    assert child(root(), "nothing") is None


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("target.model.name", choices.SHIPPED_MODELS),
        ("target.data.name", choices.SHIPPED_DATA),
        ("target.task", choices.SHIPPED_TASKS),
    ],
)
def test_descriptions_name_all_that_is_shipped(path: str, names: dict[str, str]) -> None:
    (described,) = [field.description for field in field_table() if field.path == path]
    assert described.rpartition(": ")[2].split(", ") == [*names]


def test_parsing_leaves_the_given_values_alone() -> None:
    values = plain(transfer={"pairs": [dict(PAIR)]})
    before = copy.deepcopy(values)
    parse_config(values, "x")
    assert values == before


@pytest.mark.parametrize(("given", "near"), [("TPE", "tpe"), ("ResNet18", "resnet18"), ("resnet81", "resnet18")])
def test_near_names_are_found_whatever_their_case(given: str, near: str) -> None:
    assert unknown_name("the name", given, ["tpe", "resnet18", "gp"]).endswith(f"; did you mean {near}?")


def test_a_leading_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    paths = {"target.model.weights": "~/w.pt", "target.data.root": "~", "source.model.weights": "~you/w.pt"}
    config = load_config("digits", [f'{path}="{value}"' for path, value in paths.items()])
    assert config.target.model.weights == "/home/me/w.pt"
    assert config.target.data.root == "/home/me"
    assert config.source.model.weights == "~you/w.pt"
