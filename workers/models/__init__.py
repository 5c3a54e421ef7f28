"""The networks and their files; it imports torch, transformers where a model needs it, and the core."""
