"""What mattered in a sweep: importances, the way from the base to the best, curves, figures; from its records alone.

space.py           what was searched, and every value as a number
search.py          the trials of the search: what each drew, and its value
evaluators.py      PED-ANOVA and fANOVA, each beside a permuted objective
surrogate.py       a forest that predicts the value; marginal curves
ablation_path.py   from the base to the best, one parameter after the other
curves.py          epochs against the last one; what early stopping saved and risked
layer_pairs.py     values by source and target layer
findings.py        all of it for one folder, each computed when it is first asked for
figures.py         a plotly figure of each; text.py: the same as lines
"""
