"""Settings of the term: as text, as a run contains them, and α at a step."""

import pytest
from tiny import random_model

from turnout import CoupleConfig, couple
from turnout.errors import RecipeError


def test_parsed_from_text():
    text = "alpha=0.5, weight=10,noise=false,normalized=True,layers=0+2,seed=3,pairing=permuted,gradient=gate"
    assert CoupleConfig.parse(text) == CoupleConfig(
        alpha=0.5, weight=10, noise=False, normalized=True, layers=(0, 2), seed=3, pairing="permuted", gradient="gate"
    )
    assert CoupleConfig.parse("") == CoupleConfig()
    assert CoupleConfig.parse("seed=1,alpha=2,seed=4").seed == 4
    assert CoupleConfig.parse("alpha=2", seed=7).seed == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha", "alpha: expected name=value, separated by commas, got 'alpha'"),
        ("alpha=high", "alpha: expected finite numbers of 0 or more, got 'high'"),
        ("alpha=-1", "alpha: expected finite numbers of 0 or more, got '-1'"),
        ("noise=maybe", "noise: expected true or false, got 'maybe'"),
        ("layers=0+x", r"layers\.1: expected a whole number, got 'x'"),
        ("pairing=other", "pairing: expected 'own' or 'permuted', got 'other'"),
        ("wieght=1", r"wieght: expected a known key \(alpha, weight, .*, got an unknown one"),
    ],
)
def test_refused_text(text, message):
    with pytest.raises(RecipeError, match=message):
        CoupleConfig.parse(text)


def test_description_in_a_run():
    recorded = CoupleConfig(alpha={0: 1.0, 2: 0.5}, layers=(0, 2), normalized=True).describe()
    assert recorded["alpha"] == {"0": 1.0, "2": 0.5}
    assert recorded["layers"] == [0, 2]
    assert recorded["normalised"] is True
    assert CoupleConfig(place="up").describe()["place"] == "up"
    assert "place" not in CoupleConfig().describe()
    with pytest.raises(RecipeError, match="alpha: expected a number or a mapping, to be recorded, got a function"):
        CoupleConfig(alpha=lambda step: 1.0).describe()


def test_alpha_of_a_layer_and_a_step():
    assert CoupleConfig(alpha=0.5).alpha_at(3, 7) == 0.5
    assert CoupleConfig(alpha={3: 2.0}).alpha_at(3, 7) == 2
    assert CoupleConfig(alpha=lambda step: step / 2).alpha_at(3, 7) == 3.5


def test_normalised_is_a_former_name():
    with pytest.warns(DeprecationWarning, match="CoupleConfig: deprecated key normalised; use normalized"):
        assert CoupleConfig.parse("normalised=true") == CoupleConfig(normalized=True)
    model = random_model("olmoe")
    with pytest.warns(DeprecationWarning, match="deprecated argument normalised=; use normalized="):
        assert couple(model, normalised=True).config.normalized
