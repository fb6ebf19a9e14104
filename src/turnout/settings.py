"""Validated settings: the base of every verb's configuration and of every YAML recipe.

A field's docstring, the string literal below it, is its description: `--help`, the reference and the API's docstrings
show the same sentence. Unknown keys are refused, and every refusal is one `RecipeError` of one form.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator

from turnout.errors import RecipeError


class Section(BaseModel):
    """A part of a recipe: immutable, without unknown keys, infinities or booleans in place of numbers.

    A field whose name has changed states its former one as `Field(serialization_alias="…")`: that key stays the one
    that stored runs contain, and recipes may still use it, with a DeprecationWarning.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=False
    )

    @model_validator(mode="before")
    @classmethod
    def _booleans_are_not_numbers(cls, content: Any) -> Any:
        """True and False as text where a field admits numbers only, so that they are refused, not read as 1 and 0."""
        if not isinstance(content, Mapping):
            return content
        numeric = {name for name, field in cls.model_fields.items() if _is_number(field.annotation)}
        return {
            name: str(value) if isinstance(value, bool) and name in numeric else value
            for name, value in content.items()
        }

    @model_validator(mode="before")
    @classmethod
    def _rename_former_keys(cls, content: Any, info: ValidationInfo) -> Any:
        """Former keys under their present names; a warning unless a stored run is read."""
        if not isinstance(content, Mapping):
            return content
        fields = cls.model_fields.items()
        present = {field.serialization_alias: name for name, field in fields if field.serialization_alias}
        former = {key: present[key] for key in present.keys() & content.keys() if present[key] not in content}
        for key, name in former.items():
            if not (info.context or {}).get("stored"):
                warnings.warn(f"{cls.__name__}: deprecated key {key}; use {name}", DeprecationWarning, stacklevel=2)
        return {former.get(key, key): value for key, value in content.items()}

    def describe(self) -> dict[str, Any]:
        """The values as JSON, as a run's inputs.json and manifest contain them."""
        return self.model_dump(mode="json", by_alias=True)


class Settings(Section):
    """The configuration of one verb. A value that does not fit raises RecipeError, in the constructor too."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refusal(error, type(self).model_fields) from error

    @classmethod
    def of(cls, options: Mapping[str, Any] = MappingProxyType({}), /, **named: Any) -> Self:
        """The settings with `options`, a mapping or keywords; None stands for the default.

        Raises:
            RecipeError: an option that does not exist, or a value that does not fit.
        """
        return cls(**{name: value for name, value in {**options, **named}.items() if value is not None})

    def replace(self, **options: Any) -> Self:
        """The same settings with `options` changed, validated anew; None leaves a value as it is."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**values | {name: value for name, value in options.items() if value is not None})


class Recipe(Section):
    """A whole recipe, as a YAML file contains it."""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a recipe from a YAML file.

        Raises:
            RecipeError: no such file, not YAML, or a key (named) that is unknown, missing or of the wrong kind.
        """
        try:
            content = yaml.safe_load(Path(path).read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            received = getattr(error, "strerror", error)
            raise RecipeError(path, expected="a readable YAML file", received=received) from error
        except yaml.YAMLError as error:
            raise RecipeError(path, expected="YAML", received=error) from error
        if not isinstance(content, dict):
            expected = f"a mapping with {', '.join(cls.model_fields)}"
            raise RecipeError(path, expected=expected, received=type(content).__name__)
        return cls.parse(content, where=path)

    @classmethod
    def parse(cls, content: Mapping[str, Any], where: str | Path = "recipe", *, stored: bool = False) -> Self:
        """Validate the mapping that a recipe's YAML contains.

        Args:
            content: the mapping.
            where: its name in errors.
            stored: whether `describe` wrote it into a run; then former keys give no warning.

        Raises:
            RecipeError: `where` and the dotted key that does not fit.
        """
        try:
            return cls.model_validate(content, context={"stored": stored})
        except ValidationError as error:
            raise refusal(error, cls.model_fields, prefix=f"{where}: ") from error


def comma_separated(value: object) -> object:
    """A comma-separated string, a number or a sequence as a tuple, for fields such as `budgets="4,8"`.

    >>> comma_separated("4,8"), comma_separated(4), comma_separated([4, 8])
    (('4', '8'), (4,), (4, 8))
    """
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    if isinstance(value, int | float):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def refusal(error: ValidationError, known: Mapping[str, Any], prefix: str = "") -> RecipeError:
    """The first of pydantic's complaints as one line; `known` are the keys that exist at the top level."""
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    kind, context, value = first["type"], first.get("ctx", {}), first["input"]
    if kind == "missing":
        examples = getattr(known.get(key), "examples", None)
        expected, received = f"a value such as {examples[0]}" if examples else "a value", "none"
    elif kind == "value_error":  # a rule over several keys
        if key:  # a validator of one field, whose message says what it needs
            expected, received = str(context["error"]), repr(value)
        else:
            expected, received = "keys that fit together", f"some that do not: {context['error']}"
    elif kind == "extra_forbidden":
        keys = f" ({', '.join(known)})" if len(first["loc"]) == 1 else ""
        expected, received = f"a known key{keys}", "an unknown one"
    else:
        expected, received = _expected(kind, first["msg"], context), repr(value)
    return RecipeError(f"{prefix}{key or 'the recipe'}", expected=expected, received=received)


def _expected(kind: str, message: str, context: Mapping[str, Any]) -> str:
    """What pydantic requires, in the words of the other errors."""
    for prefix, phrase in _PHRASES.items():
        if kind.startswith(prefix):
            limits = {name: str(limit).removesuffix(".0") for name, limit in context.items()}
            return phrase.format(**limits)
    return message.removeprefix("Input should be ")


_PHRASES = {
    "greater_than_equal": "{ge} or more",
    "greater_than": "a number above {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "a number below {lt}",
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text of the pattern {pattern}",
    "string_": "text",
    "path_": "a path",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_": "a mapping",
}  # by the beginning of pydantic's name for the fault; the first that fits


def _is_number(annotation: Any) -> bool:
    """Whether an annotation admits int, float and None only."""
    parts = {part for part in get_args(annotation) or (annotation,) if part is not type(None)}
    return bool(parts) and parts <= {int, float}
