"""The pocket model and the procedural world it was trained on; it imports workers and cluster to train, render and
judge.
"""
