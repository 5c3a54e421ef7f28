"""From a specification to a worker that has probed its device; it imports denoise, decode, simulated and the models."""
