"""An audit's resamples, permutations and rotations cut down to a handful."""

from functools import partial

from turnout.auditing.evidence import layer, uncertainty


def few_draws(set_attribute):
    """`set_attribute(owner, name, value)` for each place where an audit says how many it draws."""
    for name in ("claim", "domain_signal", "rotated_contributions"):
        set_attribute(layer, name, partial(getattr(layer, name), n=9))
    set_attribute(uncertainty.Resamples, "draw", partial(uncertainty.Resamples.draw, n=9))
