"""Page and terminal tables of a plan."""
