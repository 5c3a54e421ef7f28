"""The page, a client of its own server over a private socket; it imports the protocol, cluster.net and
cluster.access.
"""
