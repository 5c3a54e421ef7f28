"""The networks and their files; it imports torch and the core."""
