"""The formulas with their annotations enforced: shapes and dtypes of arguments and results."""

from types import SimpleNamespace

import pytest
from beartype import beartype
from jaxtyping import jaxtyped

from turnout import ops as plain


@pytest.fixture(scope="session")
def ops() -> SimpleNamespace:
    """`turnout.ops`, every function checked by jaxtyping and beartype."""
    named = {name: getattr(plain, name) for name in plain.__all__}
    functions = {name: function for name, function in named.items() if not isinstance(function, type)}
    return SimpleNamespace(**{name: jaxtyped(typechecker=beartype)(function) for name, function in functions.items()})
