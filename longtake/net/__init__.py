"""What clients, servers and workers all know of addresses and names; it imports nothing of theirs."""
