"""The search space: entries, conditions, choices of layers, checks."""
