"""Keyword options of a verb, held against the fields of its configuration."""

from collections.abc import Collection, Mapping
from typing import Any

from turnout.errors import RecipeError


def given_options(options: Mapping[str, Any], known: Collection[str], verb: str) -> dict[str, Any]:
    """`options` without those that are None, which stand for a default.

    Raises:
        RecipeError: one that is not `known`; `verb` says of what ("masking").
    """
    given = {name: value for name, value in options.items() if value is not None}
    unknown = sorted(given.keys() - set(known))
    if unknown:
        raise RecipeError(unknown[0], expected=f"an option of {verb} ({', '.join(known)})", received="an unknown one")
    return given
