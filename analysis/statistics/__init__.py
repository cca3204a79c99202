"""Paired differences with intervals and p values, and what a number of seeds can show."""
