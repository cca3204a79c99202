"""One entry of a sweep file's `search`: how a value is drawn, and under which conditions.

{choice: [4, 8, 16]}                        {float: [0.05, 0.5], log: true}
{int: [2, 16], when: {method: mergenet}}    {layers: {source: "layer3.*", target: "features.*"}}
"""

from typing import Annotated, Any, NamedTuple, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from mergenet.config import PairConfig, Strict
from mergenet.config.pair_labels import is_label, pairs_of
from mergenet.config.rules import rule
from mergenet.config.sections import PairLabel

Scalar = str | int | float | bool | None
Values = Annotated[tuple[Scalar, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=1, le=100_000)]


class Form(NamedTuple):
    """A form that an entry can have. beside: JSON Schema of the other keys."""

    example: dict[str, Any]
    draws: str
    beside: dict[str, Any]


LINEAR, LOG, NO_STEP = {"log": {"const": False}}, {"log": {"const": True}}, {"step": {"type": "null"}}
FORMS = (
    Form(
        {"choice": [4, 8, 16]}, "one of the values, which may be of any kind, lists and mappings too", LINEAR | NO_STEP
    ),
    Form({"int": [2, 16]}, "a whole number; with step: 2 every second one", LINEAR),
    Form(
        {"int": [2, 16], "log": True}, "a whole number whose logarithm is uniform: small ones more often", LOG | NO_STEP
    ),
    Form({"float": [0.0, 0.5]}, "a number", LINEAR | NO_STEP),
    Form({"float": [0.05, 0.5], "log": True}, "a number whose logarithm is uniform, as for rates", LOG | NO_STEP),
    Form(
        {"layers": {"source": "layer3.*", "target": "features.*"}},
        "of transfer.pairs: one pair of any source with any target layer that match (`mergenet layers` has the names); "
        "also layer3.*>features.*",
        LINEAR | NO_STEP,
    ),
)
WHEN = Form(
    {"choice": [4, 8, 16], "when": {"method": "mergenet"}},
    "drawn only where the other searched paths have (one of) these values; elsewhere the base's value stands",
    {},
)
JSON_TYPES = {"choice": "array", "int": "array", "float": "array", "layers": ["object", "string"]}


def form_schema(form: Form) -> dict[str, Any]:
    """The form as JSON Schema: which keys are there, and what of the others is allowed beside them."""
    kind = next(iter(form.example))
    about = {"title": kind, "description": form.draws, "required": list(form.example)}
    above_zero = {"items": {"exclusiveMinimum": 0}} if "log" in form.example else {}
    return about | {"properties": {kind: {"type": JSON_TYPES[kind], **above_zero}, **form.beside}}


class Entry(Strict):
    """How one value is drawn: exactly one of choice, int, float and layers. Bounds are included."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [form_schema(form) for form in FORMS]})

    choice: tuple[Any, ...] | None = Field(
        None, min_length=1, description="values to choose from", json_schema_extra={"uniqueItems": True}
    )
    whole: tuple[int, int] | None = Field(
        None, alias="int", description="whole numbers from low to high, both included"
    )
    real: tuple[float, float] | None = Field(None, alias="float", description="numbers from low to high, both included")
    layers: PairConfig | None = Field(
        None, description="transfer.pairs: one pair of any source with any target layer that match two patterns"
    )
    log: bool = Field(False, description="int, float: draw the logarithm uniformly")
    step: Count | None = Field(None, description="int without log: distance between the values; null: 1")
    when: dict[str, tuple[Scalar, ...]] = Field(
        default_factory=dict, description="drawn only if these searched paths have (one of) these values"
    )

    @field_validator("layers", mode="before", json_schema_input_type=PairConfig | PairLabel | None)
    @classmethod
    def _read_label(cls, value: Any) -> Any:
        if not is_label(value):
            return value
        pairs = pairs_of(value)
        if len(pairs) > 1:
            raise rule("", "be one pair of patterns", value)
        return pairs[0]

    @field_validator("when", mode="before", json_schema_input_type=dict[str, Scalar | Values])
    @classmethod
    def _check_when(cls, value: Any) -> Any:
        return conditions_of(value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = [kind for kind in (self.choice, self.whole, self.real, self.layers) if kind is not None]
        if len(kinds) != 1:
            must = "be exactly one of choice, int, float and layers"
            raise rule("", must, len(kinds), "for example {choice: [4, 8]}")
        if self.bounds is None:
            return self._check_choice()
        low, high = self.bounds
        if not low < high:
            raise rule("", "have low < high", list(self.bounds), "a fixed value goes under set")
        if self.log and low <= 0:
            raise rule("", "have low > 0 with log: true", low, "drop log")
        if self.step is not None and (self.whole is None or self.log):
            raise rule("", "be an int without log to have a step", self.step, "use choice for other values")
        return self

    def _check_choice(self) -> Self:
        if self.log or self.step is not None:
            kind = "layers" if self.choice is None else "choice"
            raise rule("", f"have neither log nor step with {kind}", "one", "drop it")
        if any(value in self.listed[:i] for i, value in enumerate(self.listed)):
            raise rule("", "list each value once", list(self.listed))
        return self

    @property
    def listed(self) -> tuple[Any, ...]:
        """The values of a choice; of `layers` a pair of its patterns, until layer_choices.py has looked them up."""
        if self.layers is not None:
            return ([self.layers.model_dump(mode="json", exclude_defaults=True)],)
        return self.choice or ()

    @property
    def bounds(self) -> tuple[float, float] | None:
        return self.whole if self.whole is not None else self.real


def is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def conditions_of(given: Any) -> Any:
    """`when` as written -> path -> values: a single value needs no list. Raises ValueError."""
    if not isinstance(given, dict):
        raise rule("", "be a mapping of searched paths to values", given, "for example {method: mergenet}")
    listed = {path: tuple(value) if isinstance(value, list | tuple) else (value,) for path, value in given.items()}
    for path, values in listed.items():
        if not values or not all(map(is_plain, values)):
            raise rule(f".{path}", "be a plain value or a list of them", given[path])
    return listed
