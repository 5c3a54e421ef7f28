"""Tests of the cluster: real gRPC, real processes, on loopback."""
