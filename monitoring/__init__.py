"""Folds what the core decides into log lines and metrics, and makes dashboards and rules; it imports the core only."""
