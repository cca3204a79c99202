"""What an adapter is shown of a giving layer: its current factor, in the coordinates of the receiver's. [ours]"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mergenet.errors import CheckpointError
from mergenet.layers.current import device_of
from mergenet.transfer.alignment import Estimated
from mergenet.transfer.encodings import Encoding, FactorizedView, Followed, Projected, Whole
from mergenet.transfer.subspace import share


class Giver:
    """A layer that gives.

    encoding: of the layer. weight: step -> the layer's weight before that optimizer step.
    learns: the weight changes while the run goes on.
    estimated: a map from the source's columns to the target's; without it, columns are taken as the encoding has them.
    """

    def __init__(
        self,
        encoding: Encoding,
        weight: Callable[[int], Tensor],
        estimated: Estimated | None = None,
        learns: bool = True,
    ) -> None:
        self.encoding, self.weight, self.estimated, self.learns = encoding, weight, estimated, learns
        self.known: Tensor | None = None  # the factor of a layer that does not learn
        # kept where a basis shows less than the whole weight: what was learned is the change from the start
        self.start = self._matrix(0) if isinstance(encoding, Followed | Projected) else None
        self.shares = torch.full((2,), float("nan"))

    @property
    def shape(self) -> tuple[int, int]:
        """Of what `shown` gives."""
        rows, columns = self.encoding.factor_shape
        return rows, columns if self.estimated is None else self.estimated.width

    def shown(self, step: int) -> Tensor:
        """The factor before optimizer step `step`, (R, columns of the target's factor)."""
        factor = self._factor(step) if self.known is None else self.known
        if not self.learns:
            self.known = factor
        return factor if self.estimated is None else factor @ self.estimated.matrix(step)

    def metrics(self) -> dict[str, float]:
        """source_share, source_change_share: what share of the weight, and of its change since the start, was shown.

        Each |B^T X|^2 / |X|^2, at the last transfer; the second only if there was a change. 1 where all is shown.
        """
        values = {"source_share": 1.0}
        if self.start is not None:
            names = ("source_share", "source_change_share")
            found = zip(names, self.shares.tolist(), strict=True)
            values = {name: value for name, value in found if not math.isnan(value)}
        if self.estimated is not None and not math.isnan(self.estimated.r2):
            values["align_r2"] = self.estimated.r2
        return values

    @torch.no_grad()
    def _factor(self, step: int) -> Tensor:
        if isinstance(self.encoding, FactorizedView):
            return self.encoding.read()
        if isinstance(self.encoding, Whole):
            return self.encoding.read_from(self.weight(step))
        assert self.start is not None
        matrix = self._matrix(step)
        factor = self.encoding.factor(matrix)
        assert self.encoding.basis is not None
        change = matrix - self.start
        of_change = share(self.encoding.basis.T @ change, change)
        self.shares = torch.stack([share(factor, matrix), torch.where(change.any(), of_change, torch.nan)])
        return factor

    def _matrix(self, step: int) -> Tensor:
        assert isinstance(self.encoding, Followed | Projected)
        return self.encoding.view.matrix(self.weight(step), device_of(self.encoding.layer))

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"encoding": self.encoding.state_dict(), "shares": self.shares}
        return state | ({} if self.estimated is None else {"estimated": self.estimated.state_dict()})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if "encoding" not in state:  # of a version that had only fixed bases
            state = {"encoding": state, "shares": self.shares}
        if ("estimated" in state) != (self.estimated is not None):  # of a build of 0.2 before its release
            raise CheckpointError(
                "the checkpoint must be of layers that meet as these do, got one of layers that were taken "
                f"{'to share no space' if 'estimated' in state else 'to share a space as it is'}, which an earlier "
                "version did with networks of one architecture; train into another folder (--out)"
            )
        self.known = None
        self.encoding.load_state_dict(state["encoding"])
        self.shares = state["shares"]
        if self.estimated is not None:
            self.estimated.load_state_dict(state["estimated"])
