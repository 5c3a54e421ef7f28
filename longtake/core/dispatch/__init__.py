"""Which ops can run, which a worker is handed next, and who waits for a place; it imports fleet, sessions, recipe
and carry of the core.
"""
