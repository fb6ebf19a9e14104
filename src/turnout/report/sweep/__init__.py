"""Page and terminal tables of a sweep."""
