"""Tests of the benchmarks themselves, at tiny size."""
