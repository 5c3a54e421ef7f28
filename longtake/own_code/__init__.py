"""Where the server's own packages are found; it imports the standard library only."""
