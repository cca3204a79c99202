"""The distillation methods, with the settings of their publications."""

# The settings of each distillation method, with the values of its published CIFAR-100 recipe: mdistiller's and
# RepDistiller's for kd, rkd, pkt, spkd and dkd (warm-up: 20 of 240 epochs), the authors' code for logit_std, nkd, dist.
PUBLISHED: dict[str, dict[str, float]] = {
    "kd": {"weight": 0.9, "ce_weight": 0.1, "warmup_fraction": 0, "temperature": 4},
    "logit_std": {"weight": 9, "ce_weight": 0.1, "warmup_fraction": 0, "temperature": 2},
    "dkd": {"weight": 1, "ce_weight": 1, "warmup_fraction": 1 / 12, "temperature": 4, "alpha": 1, "beta": 8},
    "nkd": {"weight": 1, "ce_weight": 1, "warmup_fraction": 0, "temperature": 1, "gamma": 1.5},
    "dist": {"weight": 1, "ce_weight": 1, "warmup_fraction": 0, "temperature": 1, "beta": 1, "gamma": 1},
    "rkd": {"weight": 1, "ce_weight": 1, "warmup_fraction": 0, "distance_weight": 25, "angle_weight": 50},
    "pkt": {"weight": 30000, "ce_weight": 1, "warmup_fraction": 0},
    "spkd": {"weight": 3000, "ce_weight": 1, "warmup_fraction": 0},
}
FEATURE_METHODS = ("rkd", "pkt", "spkd")  # compare penultimate features; the others compare class logits


def described(name: str) -> str:
    """`4 (kd, dkd), 2 (logit_std)`: the values of a setting, and the methods that use it."""
    methods: dict[float, list[str]] = {}
    for method, settings in PUBLISHED.items():
        if name in settings:
            methods.setdefault(settings[name], []).append(method)
    return ", ".join(f"{round(value, 4):g} ({', '.join(names)})" for value, names in methods.items())
