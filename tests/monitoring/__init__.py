"""Tests of what folds events."""
