"""Public names of a package, imported on first use, so that `import turnout` does not import torch."""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str], former: Mapping[str, str] = MappingProxyType({})
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose public names are defined elsewhere (PEP 562).

    Args:
        package: the package's `__name__`.
        homes: public name → module that defines it.
        former: former name → public name; accepted with a DeprecationWarning.
    """

    def getattr_(name: str) -> Any:
        if name in former:
            message = f"{package}: deprecated name {name}; use {former[name]}"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            name = former[name]
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return getattr_, lambda: sorted(homes)
