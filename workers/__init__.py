"""Executes on devices: denoise, commit, pages as tensors, decode, encode."""
