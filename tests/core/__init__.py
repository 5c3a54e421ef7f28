"""Tests of the pure core: no device, no clock, no mock."""
