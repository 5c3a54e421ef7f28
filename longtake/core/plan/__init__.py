"""What a cell can carry and what its devices hold, in numbers; it imports fleet, limits, work, recipe and errors of the
core.
"""
