"""How state gets from one place to another: moves, parking, forks; it imports fleet, sessions and recipe of the
core.
"""
