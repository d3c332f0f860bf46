"""Distillation: losses, layer maps, students, and the `distill` step."""
