"""Copies of pages and decoder slots in host memory, and their way to other workers; it imports the words of workers
and the core.
"""
