"""What stands behind a figure: its interval, its nulls, and the claim that they allow."""
