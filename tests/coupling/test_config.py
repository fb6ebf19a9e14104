"""Options as text and as a run records them."""

import pytest

from turnout.coupling import CoupleConfig
from turnout.errors import RecipeError


def test_parsed_from_text():
    said = "alpha=0.5, weight=10,noise=false,normalised=True,layers=0+2,seed=3,pairing=permuted,gradient=gate"
    assert CoupleConfig.parse(said) == CoupleConfig(
        alpha=0.5, weight=10, noise=False, normalised=True, layers=(0, 2), seed=3, pairing="permuted", gradient="gate"
    )
    assert CoupleConfig.parse("") == CoupleConfig()
    assert CoupleConfig.parse("seed=1,alpha=2,seed=4").seed == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpha", "alpha: expected name=value, separated by commas, got 'alpha'"),
        ("alpha=high", "alpha: expected a number, got 'high'"),
        ("alpha=-1", "alpha: expected a finite number of at least 0, got -1.0"),
        ("noise=1", "noise: expected true or false, got '1'"),
        ("layers=0+x", "layers: expected a whole number, got 'x'"),
        ("pairing=other", "pairing: expected one of own, permuted, got 'other'"),
        ("wieght=1", "wieght: expected one of alpha, weight, .*, got an unknown option"),
    ],
)
def test_refused_text(text, message):
    with pytest.raises(RecipeError, match=message):
        CoupleConfig.parse(text)


def test_what_a_run_records():
    recorded = CoupleConfig(alpha={0: 1.0, 2: 0.5}, layers=(0, 2)).to_dict()
    assert recorded["alpha"] == {"0": 1.0, "2": 0.5}
    assert recorded["layers"] == [0, 2]
    assert CoupleConfig(place="up").to_dict()["place"] == "up"
    with pytest.raises(RecipeError, match="alpha: expected a number or a mapping, to be recorded, got a function"):
        CoupleConfig(alpha=lambda step: 1.0).to_dict()


def test_alpha_of_a_layer_and_a_step():
    assert CoupleConfig(alpha=0.5).alpha_at(3, 7) == 0.5
    assert CoupleConfig(alpha={3: 2.0}).alpha_at(3, 7) == 2
    assert CoupleConfig(alpha=lambda step: step / 2).alpha_at(3, 7) == 3.5
