"""Samplers and schedulers by name, with what the rest of a sweep needs to know about them without importing Optuna or
Ray.

The code behind the names is in dicts with the same keys: samplers/registry.py, schedulers/early_stopping.py.
`tests/test_choices.py` checks that they agree.
"""

from dataclasses import dataclass

from mergenet.config.choices import Facts


@dataclass(frozen=True)
class SamplerFacts(Facts):
    """The defaults hold for a sampler that draws from any space and can be asked again for another draw.

    learns: it fits a model to all trials of the study, those of `warm_start` too. generations: it draws in generations.
    repeats: a configuration may be drawn twice, and is then not drawn anew.
    one_objective: it ranks trials by the metric alone.
    needs: requirements on the space, by their names in samplers/compatibility.py.
    """

    learns: bool = False
    generations: bool = False
    repeats: bool = False
    one_objective: bool = False
    needs: tuple[str, ...] = ()


SAMPLER_FACTS = {
    "auto": SamplerFacts("gp, but with several objectives or constraints tpe", learns=True),
    "tpe": SamplerFacts(learns=True),
    "gp": SamplerFacts(learns=True),
    "cmaes": SamplerFacts(
        generations=True, repeats=True, one_objective=True, needs=("no_choices", "several", "unconditional")
    ),
    "nsga2": SamplerFacts(generations=True, repeats=True, needs=("unconditional",)),
    "qmc": SamplerFacts(repeats=True, needs=("no_choices", "unconditional")),
    "random": SamplerFacts(),
    "grid": SamplerFacts(needs=("countable",)),
    "top_k": SamplerFacts("at random, for one epoch, the best again in full", one_objective=True),
}

SCHEDULER_FACTS = {
    "racing": Facts("asha, and whenever too many others are ahead with fewer epochs"),
    "asha": Facts(),
    "hyperband": Facts("asha in several brackets"),
    "median": Facts(),
    "none": Facts(),
}


@dataclass(frozen=True)
class KeepFacts(Facts):
    """checkpoints: how many, with all tensors, a run that has ended keeps."""

    checkpoints: int = 0


KEEP_FACTS = {
    "none": KeepFacts("nothing, so that it can be neither evaluated nor exported"),
    "best": KeepFacts("the weights of its best epoch"),
    "last": KeepFacts("these, and its last checkpoint", 1),
    "all": KeepFacts("these, and both checkpoints that it had in training", 2),
}
