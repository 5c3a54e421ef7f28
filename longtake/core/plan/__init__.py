"""What a cluster can carry, in numbers, before there is one; it imports recipe and errors of the core."""
