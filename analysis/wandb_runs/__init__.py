"""Sweeps as Weights & Biases has them: its runs, or the files that its client wrote offline, as the usual table.

wandb is imported when it is needed, here and nowhere else in analysis.
"""
