"""Among how many trials the best was chosen, in the same words wherever it is told."""

from collections.abc import Iterable

from analysis.names import COMPLETE, PRUNED


def best_of(states: Iterable[str], noun: str = "trial") -> str | None:
    """For example "the best of 12 trials (2 trained to their end) was selected for its luck as well"; None of one.

    states: of the trials. One that was stopped early was compared, too; one that failed was not.
    """
    compared = [state for state in states if state in (COMPLETE, PRUNED)]
    whole = compared.count(COMPLETE)
    if len(compared) < 2:
        return None
    ends = f" ({whole} trained to {'its' if whole == 1 else 'their'} end)" if whole < len(compared) else ""
    return f"the best of {len(compared)} {noun}s{ends} was selected for its luck as well"
