"""Forward passes: capture of routing, likelihood of answers, generation, the last layers from cached states."""
