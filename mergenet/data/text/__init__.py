"""Data sets of texts, and how texts become tokens."""
