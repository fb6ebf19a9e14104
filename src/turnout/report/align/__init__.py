"""Page and terminal tables of an alignment."""
