"""The command line; it imports the client, click and rich, and server code only inside the commands that need it."""
