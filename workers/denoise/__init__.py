"""Forwards of the transformer with pages of K/V; it imports the models, the words of workers and the core."""
