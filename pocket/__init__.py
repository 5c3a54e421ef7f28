"""The pocket model: a small trained Wan-architecture model and the procedural world it was trained on."""
