"""The journal on disk: what a session can be made again from after a crash; it imports the core and pydantic only."""
