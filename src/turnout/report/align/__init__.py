"""The page and terminal tables of an alignment."""
