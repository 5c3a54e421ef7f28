"""The pure core decides, from events alone; it imports the standard library only, and no clock, device, socket or
random source.
"""
