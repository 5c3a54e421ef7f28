"""The way between a worker and its engine; the only place of workers that imports the protocol and gRPC."""
