"""The public gRPC service; it imports the engine (cluster.cell), who calls (cluster.access), addresses and statuses
(cluster.net).
"""
