"""The pure core: it decides, from events alone, and touches no clock, device, socket or random source."""
