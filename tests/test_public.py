"""The names that other people's scripts rely on."""

from importlib import resources

import turnout


def test_every_public_name_is_there_and_says_what_it_does() -> None:
    assert {"audit", "compare", "evaluate", "load", "mask", "ops"} <= set(turnout.__all__)
    for name in turnout.__all__:
        assert name == "__version__" or getattr(turnout, name).__doc__, name


def test_all_is_the_table_of_public_names() -> None:
    names = [name for section in turnout.PUBLIC.values() for name in section]
    assert len(set(names)) == len(names)
    assert set(turnout.__all__) == {*names, "ops", "__version__"}
    assert dir(turnout) == turnout.__all__ == sorted(turnout.__all__)


def test_type_checkers_of_other_projects_see_our_types() -> None:
    assert (resources.files("turnout") / "py.typed").is_file()
