"""Run, resume and retry a sweep: its steps in order."""
