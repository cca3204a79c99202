"""Sweeps whose truth is known, written as a sweep writes them or built in memory."""
