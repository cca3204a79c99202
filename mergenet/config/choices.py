"""Settings whose values are names: one table for each setting, with what the rules need to know about each name.

The code behind the names is elsewhere, in dicts with the same keys: transfer/encodings.py and transfer/adapter.py,
for methods (distillation_defaults.py) training/distillation.py. Schema, help and messages come from the tables, and
`tests/test_choices.py` checks that tables and dicts agree.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import CoreSchema, PydanticKnownError, core_schema


class OneOf:
    """Annotates a field whose value is a name in one of the tables, as the tables are when the value is checked.

    Its errors and its JSON Schema are those of a Literal, which would fix the names when it is defined.
    """

    def __init__(self, *tables: Iterable[str]) -> None:
        self.tables = tables

    @property
    def names(self) -> list[str]:
        return [name for table in self.tables for name in table]

    def check(self, value: Any) -> str:
        if isinstance(value, str) and value in self.names:
            return value
        *first, last = map(repr, self.names)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(first)} or {last}"})

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        del source, handler
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        del schema, handler
        return {"enum": self.names, "type": "string"}


@dataclass(frozen=True)
class Facts:
    words: str = ""  # what it is, for the help; empty where the name says it


def in_words(table: Mapping[str, Facts]) -> str:
    """`NAME: words; NAME: words`, for the names that have a description."""
    return "; ".join(f"{name}: {facts.words}" for name, facts in table.items() if facts.words)


@dataclass(frozen=True)
class KindFacts(Facts):
    """shows_whole, writes_whole: this kind of adapter takes the source's, the target's whole matrix, not a factor."""

    shows_whole: bool = False
    writes_whole: bool = False


KINDS = {
    "lpka": KindFacts("attention between low-rank factors"),
    "full_matrix": KindFacts("between whole weight matrices", shows_whole=True, writes_whole=True),
    "linear": KindFacts(
        "attention without softmax whose maps start as the identity, for layers that share a space", writes_whole=True
    ),
}


@dataclass(frozen=True)
class EncodingFacts(Facts):
    """trains_factors: the layer is made a product of factors; else its weight stays a full matrix of its own."""

    trains_factors: bool = False


ENCODINGS = {
    "projected": EncodingFacts("W stays full, A = B^T W moves"),
    "factorized": EncodingFacts("the layer is B A from the start", trains_factors=True),
}
