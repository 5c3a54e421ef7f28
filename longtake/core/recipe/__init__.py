"""What a checkpoint needs to be served rightly: sizes, steps, window and the graph of ops; it imports only errors
and ids of the core.
"""
