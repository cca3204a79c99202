"""The Optuna study: trials in and out of it, its storage, warm start."""
