"""The search space: entries, conditions, layer choices, checks."""
