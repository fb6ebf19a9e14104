"""One self-contained page: data that cannot become markup, packed arrays, Plotly's bundle."""

import base64
import json
from importlib.resources import files

import numpy as np
import pytest

from turnout.report.kit.page import escaped_json, packed, packed_shares, parsed_once


def test_escaped_json_is_the_same_value() -> None:
    value = {"</script>": ["<!--", "&amp;", "\u2028", "é", None, 1.5]}
    text = escaped_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028") & set(text)


def test_undefined_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        escaped_json(float("nan"))


def test_packed_numbers_are_the_same() -> None:
    array = np.array([[0.25, np.nan], [3.0, -1.0]])
    stored = packed(array)
    numbers = np.frombuffer(base64.b64decode(stored["bytes"]), dtype="<f4").reshape(stored["shape"])
    np.testing.assert_array_equal(numbers, array)


def test_packed_shares_are_near_the_numbers() -> None:
    values = np.random.default_rng(0).exponential(size=(50, 50))
    stored = packed_shares(values)
    shares = np.frombuffer(base64.b64decode(stored["bytes"]), dtype="<u2").reshape(stored["shape"])
    assert np.abs(shares / 65535 * stored["largest"] - values).max() <= values.max() / 131_070 * 1.001
    assert packed_shares(np.zeros((2, 2)))["largest"] == 0


def test_plotly_is_parsed_once_where_its_bundle_has_the_expected_form() -> None:
    bundle = "(function(root, factory) {} (typeof self !== 'undefined' ? self : this, () => {\nlet a = '}));';\n}));\n"
    expected = (
        "(function(root, factory) {} (typeof self !== 'undefined' ? self : this, (() => {\nlet a = '}));';\n})));"
    )
    assert parsed_once(bundle) == expected
    for other in ("(() => {\n}));\n", bundle + "more()", bundle + bundle):
        assert parsed_once(other) == other
    plotly = files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    assert len(parsed_once(plotly)) == len(plotly) + 2  # the installed release has that form
