"""Token types by committee, and the tokens, domains and partners of every expert."""
