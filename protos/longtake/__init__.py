"""Protocols of Longtake."""
