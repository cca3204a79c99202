"""A sweep file as plain values, and changes that make it a wrong one."""

from typing import Any

GATE = {"transfer.adapter.gate": {"float": [0.02, 0.5], "log": True}}


def values(**changes: Any) -> dict[str, Any]:
    return {"name": "s", "base": "digits", "search": GATE} | changes


# changes of a valid file, and what the message of each says
BAD: list[tuple[dict[str, Any], str]] = [
    ({"num_trials": 0}, "num_trials must be >= 1, got 0"),
    ({"num_trials": "many"}, "num_trials must be a whole number, got 'many'"),
    ({"slots": 0}, "slots must be >= 1, got 0"),
    (
        {"keep_checkpoints": "none", "wandb": {"log_model": True}},
        "keep_checkpoints must be best, last or all with wandb.log_model, got 'none'; it exports the best",
    ),
    (
        {"transfer.t_cycle": 3},
        "transfer.t_cycle must be a key of a sweep, got a setting of its trials; write it under set",
    ),
    (
        {"set.transfer.t_cycle": 3},
        "set.transfer.t_cycle must be nested in a file, got one key with dots; write `set: {transfer.t_cycle: ...}`",
    ),
    (
        {"wandb.mode": "offline"},
        "wandb.mode must be nested in a file, got one key with dots; write `wandb: {mode: ...}`",
    ),
    ({"epochs": 3}, "epochs must be a key of a sweep, got a setting of its trials; write it under set"),
    (
        {"sampler": "tpee"},
        "sampler must be one of auto, cmaes, gp, grid, nsga2, qmc, random, top_k, tpe, got 'tpee'; did you mean tpe?",
    ),
    ({"num_trails": 3}, "did you mean num_trials"),
    ({"mode": "min"}, "mode must be one of "),  # the metric says it
    ({"metric": "target_test_top1"}, "metric must be a validation metric (target_val_...), got 'target_test_top1'"),
    ({"name": "a/b"}, "name must be letters, digits, dots, dashes and underscores"),
    ({"wandb": {"api_key": "abc"}}, "wandb.api_key must not be in a sweep file"),
    ({"wandb": {"project": "a" * 129}}, "wandb.project must have at most 128 characters, got 'aaa"),
    ({"wandb": {"mode": "on"}}, "wandb.mode must be one of disabled, offline, online, got 'on'"),
    (
        {"minimize": ["adapter_params"]},
        "minimize.0 must be one of adapter_parameters, step_seconds, target_val_loss, got 'adapter_params'; did",
    ),
    ({"minimize": ["step_seconds"] * 2}, "minimize must list each objective once, and not the metric, got ['step"),
    (
        {"metric": "target_val_loss", "minimize": ["target_val_loss"]},
        "minimize must list each objective once, and not the metric, got ['target_val_loss']",
    ),
    (
        {"constraints": {"step_second": {"max": 1}}},
        "the name of a constraint must be one of adapter_parameters, step_seconds, target_val_METRIC, "
        "target_val_loss, got 'step_second'; did you mean step_seconds?",
    ),
    ({"constraints": {"step_seconds": {}}}, "constraints.step_seconds must have min, max or both, got 'neither'"),
    ({"constraints": {"step_seconds": 3}}, "constraints.step_seconds must be a mapping of settings, got 3"),
    ({"constraints": {"step_seconds": {"most": 3}}}, "constraints.step_seconds.most must be one of max, min, got"),
    (
        {"constraints": {"step_seconds": {"min": 2, "max": 1}}},
        "constraints.step_seconds must have min <= max, got [2.0, 1.0]",
    ),
    ({"confirm_controls": ["real"]}, "confirm_controls.0 must be one of noise, none, shuffled, got 'real'"),
    ({"confirm_controls": ["noise"] * 2}, "confirm_controls must list each control once, got ['noise', 'noise']"),
    ({"search": {}}, "search must have at least 1 item"),
    ({"search": {"a": {"choice": []}}}, "search.a.choice must have at least 1 item"),
    ({"search": {"a": {"int": [4, 2]}}}, "search.a must have low < high, got [4, 2]"),
    ({"search": {"a": {"int": [0, 2], "log": True}}}, "search.a must have low > 0 with log: true, got 0"),
    ({"search": {"a": {"float": [0, 1], "step": 2}}}, "search.a must be an int without log to have a step"),
    ({"search": {"a": {}}}, "search.a must be exactly one of choice, int, float and layers, got 0"),
    (
        {"search": {"a": {"choice": [1], "int": [1, 2]}}},
        "search.a must be exactly one of choice, int, float and layers, got 2",
    ),
    ({"search": {"a": {"choice": [1, 2, 1]}}}, "search.a must list each value once, got [1, 2, 1]"),
    ({"search": {"a": {"int": [1.5, 2]}}}, "search.a.int.0 must be a whole number, got 1.5"),
    ({"search": {"a": {"chioce": [1]}}}, "did you mean choice?"),
    ({"search": {"a": 3}}, "search.a must be a mapping of settings, got 3"),
    (
        {"search": {"a": [2, 4]}},
        "search.a must be a mapping of settings, got [2, 4]; a list of values is {choice: [2, 4]}",
    ),
]
