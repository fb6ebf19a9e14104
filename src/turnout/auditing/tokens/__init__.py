"""Which tokens committees take, and what every expert does."""
