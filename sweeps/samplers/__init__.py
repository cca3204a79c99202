"""Which configuration is tried next: Optuna's samplers, and ours around them."""
