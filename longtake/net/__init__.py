"""What clients, servers and workers all know of networks; it imports nothing of theirs."""
