"""Connects clients, decisions and workers: engine, front end, link, launchers."""
