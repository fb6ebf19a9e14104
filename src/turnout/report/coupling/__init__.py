"""The page and terminal tables of a measured coupling."""
