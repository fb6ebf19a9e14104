"""Former names: arguments, callables that became a listener, and names of a package."""

import pytest

from turnout.api.deprecated import former_names
from turnout.lazy import lazy_names
from turnout.listener import Listener


@former_names(renormalise="renormalize")
def verb(*, renormalize=False, listener=None):
    return renormalize, listener


def test_a_former_argument_warns_and_is_passed_on():
    with pytest.warns(DeprecationWarning, match="renormalise=; use renormalize="):
        assert verb(renormalise=True) == (True, None)


def test_former_callables_are_a_listener():
    received = []
    with pytest.warns(DeprecationWarning, match="progress=, note= and watch=; use listener="):
        _, listener = verb(
            progress=lambda *step: received.append(step),
            note=lambda line: received.append(line),
            watch=lambda *trial: received.append(trial),
        )
    assert isinstance(listener, Listener)
    listener.progress("steps", 1, 2, "steps")
    listener.note("a line")
    listener.trial("a", "done")
    assert received == [("steps", 1, 2, "steps"), "a line", ("a", "done")]


def test_a_former_name_of_a_package_warns():
    getattr_, dir_ = lazy_names("package", {"RunError": "turnout.errors"}, former={"Old": "RunError"})
    with pytest.warns(DeprecationWarning, match="package: deprecated name Old; use RunError"):
        assert getattr_("Old") is getattr_("RunError")
    assert dir_() == ["RunError"]
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        getattr_("Other")
