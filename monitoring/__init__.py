"""Folds what happens into log lines and metrics."""
