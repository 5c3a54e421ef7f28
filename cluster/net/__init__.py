"""Addresses, certificates, files, statuses and options of gRPC; it imports the core and the configuration."""
