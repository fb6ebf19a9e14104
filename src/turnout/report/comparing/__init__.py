"""Page and terminal tables of a comparison of runs."""
