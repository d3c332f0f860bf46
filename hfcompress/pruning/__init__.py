"""Pruning: fewer weights, by training or from a few hundred examples."""
