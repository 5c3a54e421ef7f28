"""The models that workers run."""
