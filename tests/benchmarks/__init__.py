"""Tests of the benchmarks, at sizes of seconds."""
