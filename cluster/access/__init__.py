"""Who calls, what they may and what they have used; it imports the core and cluster.net."""
