"""Layers of a network: which can take part, their weights as matrices, the spaces they share."""
