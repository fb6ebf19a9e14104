"""Evidence for the figures of a layer: intervals, nulls and the claim."""
