"""Analysis of a sweep's trials: shape and optimum of each curve, paired differences, gaps between losses."""
