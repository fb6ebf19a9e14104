"""Quick audits: tests of figures, tables and folders need no thousand resamples."""

import pytest
from auditing.few import few_draws as make_few


@pytest.fixture(scope="module")
def few_draws():
    """Resamples, permutations and rotations by the handful, for a whole module."""
    with pytest.MonkeyPatch.context() as patch:
        make_few(patch.setattr)
        yield
