"""Ablations: one factor at a time around a configuration, and the components of the method, with shared seeds."""
