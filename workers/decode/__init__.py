"""Latents to pictures, pictures to segments; it imports the models, the words of workers and the core."""
