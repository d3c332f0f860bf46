"""Low-rank factorization of trained layers, their ranks chosen by a budget."""
