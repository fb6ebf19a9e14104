"""Page and terminal tables of a measured coupling."""
