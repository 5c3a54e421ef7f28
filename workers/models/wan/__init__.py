"""Wan transformer and VAE; it imports torch, and of workers nothing but the models' interface."""
