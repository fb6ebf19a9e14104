"""Tasks of lm-evaluation-harness by name: its own task objects, or one line with the reason why not."""

import difflib
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnout.errors import TaskError

NAMED = re.compile(r"^[ \t-]*(?:task|group)[ \t]*:[ \t]*[\"']?([^\s\"'#,\[\]{}]+)", re.MULTILINE)
_LOCAL = {"json", "csv", "parquet", "arrow", "text", "xml", "pandas", "webdataset", "imagefolder", "audiofolder"}
_PATIENCE = 10.0  # seconds for the hub to answer
SUITES = Path(__file__).parent / "suites"
"""Groups of our own: the harness's tasks with a paper's settings."""


@dataclass(frozen=True, eq=False)
class TaskObjects:
    """The requested tasks.

    Attributes:
        manager: the harness's TaskManager that made them.
        objects: the harness's Task and Group objects, ready for `simple_evaluate`.
        tasks: each single task by name, groups and tags resolved.
        domain_of: the domain of each of `tasks`.
        domains: in the order of the request.
    """

    manager: Any
    objects: list[Any]
    tasks: dict[str, Any]
    domain_of: dict[str, str]

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains, in the order of the request."""
        return tuple(dict.fromkeys(self.domain_of.values()))


def find_tasks(names: Sequence[str], include_path: Path | None) -> TaskObjects:
    """The tasks, groups and tags called `names` (or YAML files), each with its data.

    The folder `include_path` takes precedence. The harness's own index has 14,000 files, which take long to read: it is
    built only for a name that is not in that folder.

    Raises:
        TaskError: no such task (similar names are listed), or its data cannot be loaded.
    """
    if not names:
        raise TaskError("tasks", expected="at least one task of lm-evaluation-harness", received="none")
    if include_path is not None and not include_path.is_dir():
        raise TaskError(include_path, expected="a folder of task YAML files", received="no such folder")
    manager = _manager(names, include_path)
    _check_hub(manager, names)
    loaded = {name: _load(manager, name) for name in names}
    tasks = {task: made for part in loaded.values() for task, made in part["tasks"].items()}
    objects = [made for name, part in loaded.items() for made in _objects(name, part)]
    return TaskObjects(manager, objects, tasks, _domains(loaded))


def _manager(names: Sequence[str], include_path: Path | None) -> Any:
    from lm_eval.tasks import TaskManager

    folders = [str(folder) for folder in (SUITES, include_path) if folder is not None]  # the later ones take precedence
    if include_path is not None:
        manager = TaskManager(include_path=folders, include_defaults=False)
        if all(_leaves(manager.task_index, name) for name in names):
            return manager
    elif all(Path(name).is_file() for name in names):
        return TaskManager(include_defaults=False)
    own = [
        path.read_text(encoding="utf-8", errors="replace")
        for folder in folders
        for path in sorted(Path(folder).rglob("*.yaml"))
    ]
    text = "\n".join([*own, *packaged_text()])
    for name in names:
        if not Path(name).is_file() and not re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", text):
            raise _unknown(name, set(NAMED.findall(text)))
    manager = TaskManager(include_path=folders)
    for name in names:
        if not Path(name).is_file() and name not in manager.task_index:
            raise _unknown(name, manager.all_tasks)
    return manager


def packaged_text() -> Iterator[str]:
    """The text of every task file in the installed harness: a name that is in none of them is no task of it."""
    spec = importlib.util.find_spec("lm_eval")
    assert spec is not None
    for place in spec.submodule_search_locations or ():
        for path in (Path(place) / "tasks").rglob("*.yaml"):
            yield path.read_text(encoding="utf-8", errors="replace")


def _unknown(name: str, known: Any) -> TaskError:
    near = difflib.get_close_matches(name, sorted(known), n=4)
    do = f"near it: {', '.join(near)}" if near else "`lm-eval ls tasks` lists them; --include-path adds your own"
    return TaskError("--tasks", expected="a task, group or tag of lm-evaluation-harness", received=repr(name), do=do)


def _leaves(index: Mapping[str, Any], name: str) -> list[Any] | None:
    """The index's entries of the single tasks under `name`; None if it or a part of it is not in this index."""
    entry = index.get(name)
    if entry is None:
        return None
    config = entry.cfg or {}
    members = sorted(entry.tags) if entry.yaml_path is None and entry.cfg is None else config.get("task")
    if not isinstance(members, list):
        return [entry]
    below_all: list[Any] = []
    for member in members:
        part = member if isinstance(member, str) else member.get("group", member.get("task"))
        below = _leaves(index, part) if isinstance(part, str) and part != name else None
        if below is None:
            return None
        below_all += below
    return below_all


def _check_hub(manager: Any, names: Sequence[str]) -> None:
    """Request the hub once if data must be fetched: the harness's own client would retry for half a minute."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return
    paths = [(e.cfg or {}).get("dataset_path") for name in names for e in _leaves(manager.task_index, name) or ()]
    remote = [p for p in paths if isinstance(p, str) and p not in _LOCAL and not Path(p).exists()]
    if not remote:
        return
    try:
        HfApi().dataset_info(remote[0], timeout=_PATIENCE)
    except Exception as error:  # whatever the hub's client stumbles over: no network, no such dataset, no access
        raise _no_data(remote[0], error) from error


def _no_data(name: str, error: BaseException) -> TaskError:
    received = f"{type(error).__name__}: {error}"
    do = "without a network use tasks with local data, or HF_HUB_OFFLINE=1 for data fetched before"
    return TaskError(name, expected="the data of a task, on the hub or in its files", received=received, do=do)


def _load(manager: Any, name: str) -> Any:
    try:
        loaded = manager.load([name])
    except Exception as error:  # the harness, datasets and the hub's client raise all kinds for a task without data
        if isinstance(error, OSError):
            raise _no_data(f"task {name}", error) from error
        received = f"{type(error).__name__}: {error}"
        expected = "a task that lm-evaluation-harness can load"
        raise TaskError(f"task {name}", expected=expected, received=received) from error
    if not loaded["tasks"]:
        raise TaskError(f"task {name}", expected="at least one task in the group", received="none")
    return loaded


def _objects(name: str, loaded: Any) -> list[Any]:
    """A group's own object, so that its aggregates are made; else the tasks themselves."""
    group = loaded["groups"].get(name)
    if group is None and loaded["groups"]:  # a YAML file of a group
        below = {child for children in loaded["group_map"].values() for child in children}
        return [g for n, g in loaded["groups"].items() if n not in below]
    return [group] if group is not None else list(loaded["tasks"].values())


def _domains(loaded: Mapping[str, Any]) -> dict[str, str]:
    """Each task's domain: the name it was requested under; a group or tag requested alone becomes its members."""
    if len(loaded) > 1:
        return {task: _name(name, part) for name, part in loaded.items() for task in part["tasks"]}
    ((name, part),) = loaded.items()
    children = part["group_map"].get(_name(name, part), list(part["tasks"]))
    while len(children) == 1 and children[0] in part["group_map"]:
        children = part["group_map"][children[0]]
    return {task: child for child in children for task in _under(child, part)}


def _under(name: str, part: Any) -> list[str]:
    if name not in part["group_map"]:
        return [name]
    return [task for child in part["group_map"][name] for task in _under(child, part)]


def _name(requested: str, part: Any) -> str:
    """Name of a domain: the requested name; for a YAML file, the name inside it."""
    is_file = Path(requested).is_file() and requested not in part["groups"] and requested not in part["tasks"]
    return next(iter(part["groups"] or part["tasks"])) if is_file else requested
