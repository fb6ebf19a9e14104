"""Base class of the results that verbs return: the JSON object in a run folder, with its tables."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Self

import polars as pl

from turnout.errors import RunError
from turnout.runs.folder import RunFolder


class Result:
    """A verb's stored result; an undefined figure is None. Subclasses name their file and add properties."""

    FILE: ClassVar[str]
    """Name of the JSON file in the run folder."""
    VERB: ClassVar[str]
    """The command that writes it."""
    SCHEMA: ClassVar[int] = 1
    """Version of the JSON object."""

    def __init__(self, content: Mapping[str, Any], path: Path | None = None, *, already_complete: bool = False) -> None:
        self._content, self._path, self._already_complete = content, path, already_complete

    @property
    def path(self) -> Path | None:
        """The run's folder; None for a result that has none."""
        return self._path

    @property
    def already_complete(self) -> bool:
        """Whether the folder contained the finished run before the call, so that nothing was computed."""
        return self._already_complete

    @classmethod
    def load(cls, path: Path | str, *, already_complete: bool = False) -> Self:
        """The result in the folder of a complete run.

        Args:
            path: the folder.
            already_complete: whether the run was complete before the call that loads it.

        Raises:
            RunError: no complete run there, a run of another verb, a damaged file, or another schema.
        """
        folder = RunFolder.read(path)
        if not (folder.path / cls.FILE).exists() and cls.FILE not in folder.files:
            do = f"see turnout {cls.VERB}"
            raise RunError(path, expected=f"a run with {cls.FILE}", received="one without", do=do)
        content = cls.checked(folder.read_json(cls.FILE), folder.path)
        return cls(content, folder.path, already_complete=already_complete)

    @classmethod
    def checked(cls, content: object, where: Path) -> dict[str, Any]:
        """`content` if it is an object of this schema; RunError naming `where` if not."""
        schema = content.get("schema", 1) if isinstance(content, dict) else type(content).__name__
        if not isinstance(content, dict) or schema != cls.SCHEMA:
            raise RunError(where, expected=f"{cls.FILE} of schema {cls.SCHEMA}", received=schema)
        return content

    def frame(self) -> pl.DataFrame:
        """The result's main table."""
        raise NotImplementedError

    def table(self, name: str) -> pl.DataFrame:
        """One of the run's tables, by its file name without the suffix.

        Raises:
            RunError: the result has no folder, or the run no such table.
        """
        if self.path is None:
            do = "load the run's folder itself"
            raise RunError(name, expected="a result with a run folder", received=f"a bare {self.FILE}", do=do)
        return RunFolder.read(self.path).read_table(name)

    def to_dict(self) -> dict[str, Any]:
        """Exactly the JSON file, as a copy."""
        return deepcopy(dict(self._content))

    def title(self) -> str:
        """One line that names what was done to what."""
        model = self._content.get("model")
        name = model.get("id", "") if isinstance(model, Mapping) else ""
        return f"{type(self).__name__} of {name}" if name else type(self).__name__

    def __repr__(self) -> str:
        return f"{self.title()}\n{self.frame()}"
