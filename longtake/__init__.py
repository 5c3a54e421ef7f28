"""Longtake: hour-scale, steerable video streams from autoregressive video diffusion, served over gRPC."""
