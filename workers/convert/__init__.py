"""From published checkpoints to a model directory; it imports the models and the core, and no worker imports it."""
