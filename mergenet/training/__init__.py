"""Training: the trainer and its T_cycle step, the run folder around it, distillation, diagnosis."""
