"""The engine, where clock, network and decision meet, and what it speaks with; it imports the core, monitoring and
the words of workers.
"""
