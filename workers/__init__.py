"""Executes on devices: denoise, commit, decode, encode; it imports the core and torch, and the protocol only in
workers.link.
"""
