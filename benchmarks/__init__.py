"""Benchmarks, each `python -m benchmarks.NAME`, which prints a table or with --json one object; they may import every
package.
"""
