"""Tests of benchmarks.gpu, at tiny size on the CPU."""
