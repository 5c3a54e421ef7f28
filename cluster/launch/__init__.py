"""Starts workers (Ray, child processes, threads) and holds the link to them; it imports cluster.cell and workers."""
