"""The public functions: one file a verb. What a user gives is resolved here, once, and nowhere else.

Every function has the same four steps: resolve what was given (a path, an object or None; loading options) → open the
run folder, which resumes → call the verb on resolved objects → draw the page and return the result.
"""
