"""Recipes: several steps in order, each recorded, resumed after the last one that finished."""
