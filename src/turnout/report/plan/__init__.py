"""The page and terminal tables of a plan."""
