"""One whole cell in simulated time: the real engine and scheduler, fake workers, links, clients, and their mishaps."""
