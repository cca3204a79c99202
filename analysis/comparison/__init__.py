"""Runs of different folders, methods or sweeps, paired by seed: whether they may be compared, and their gains."""
