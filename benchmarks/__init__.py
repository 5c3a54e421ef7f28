"""Benchmarks: each is `python -m benchmarks.NAME`, prints a table, and with --json one object."""
