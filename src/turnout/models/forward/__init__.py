"""Forward passes: capture of routing, answers, generation, cached tails."""
