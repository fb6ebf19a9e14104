"""Resamples, permutations and rotations of an audit reduced to a handful."""

from functools import partial

from turnout.auditing.evidence import bootstrap, layer


def few_draws(set_attribute):
    """Call `set_attribute(owner, name, value)` for each function of an audit that draws."""
    for name in ("claim", "domain_signal", "rotated_contributions"):
        set_attribute(layer, name, partial(getattr(layer, name), n=9))
    set_attribute(bootstrap.Resamples, "draw", partial(bootstrap.Resamples.draw, n=9))
