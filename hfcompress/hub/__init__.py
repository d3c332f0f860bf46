"""The Hub: model cards, and pushing a finished folder."""
