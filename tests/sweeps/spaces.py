"""Search spaces that tests of several rooms share: ranges, choices, and branches of methods."""

RANK, GATE, DEPTH = "transfer.adapter.rank", "transfer.adapter.gate", "transfer.adapter.depth"
CYCLE = "transfer.t_cycle"
KIND, RULE, HORIZON = "transfer.adapter.kind", "transfer.update.rule", "transfer.update.horizon"
WEIGHT = "distillation.weight"
TRANSFER = {"method": "mergenet"}
SEARCH = {RANK: {"int": [2, 8]}, GATE: {"float": [0.05, 0.5]}}
GATES = {GATE: {"float": [0.2, 0.6]}}  # the base's 0.1 lies outside, so no first trial is given
RANGES = {RANK: {"int": [2, 8]}, GATE: {"float": [0.05, 0.5], "log": True}}
CHOICES = {RANK: {"int": [2, 8], "step": 2}, GATE: {"choice": [0.05, 0.1, 0.3]}, DEPTH: {"choice": [1, 2]}}
METHODS = {
    "method": {"choice": ["mergenet", "none", "kd"]},
    CYCLE: {"choice": [2, 4, 8], "when": TRANSFER},
    KIND: {"choice": ["lpka", "full_matrix"], "when": TRANSFER},
    RANK: {"choice": [2, 4], "when": {KIND: "lpka"}},
    WEIGHT: {"choice": [0.5, 1.0], "when": {"method": ["kd"]}},
}
POINTS = 3 * (2 + 1) + 1 + 2  # cycles x (ranks or a full matrix), nothing, weights
