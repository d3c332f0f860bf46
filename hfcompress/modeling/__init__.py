"""What a model is made of, and what a compressed model is."""
