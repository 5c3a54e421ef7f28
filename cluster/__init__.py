"""Connects clients, decisions and workers: it may import every package below it (workers, monitoring, longtake) and
Ray, gRPC, asyncio.
"""
