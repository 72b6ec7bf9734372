"""Student kind ``residual``: residual blocks over decayed averages of a history."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from distill.models.dropout import Dropout
from distill.models.encoders import starting_at_zero
from distill.models.item_table import ItemTable
from distill.models.students._base import DEFAULT_DECAYS, AverageStudent, Decays
from distilrec.config import StudentConfig
from distilrec.config.section import Positive


class ResidualStudentConfig(StudentConfig):
    """A student that reads decayed averages of the history through residual blocks."""

    kind: Literal["residual"] = "residual"
    hidden_size: Positive = 128
    """Width of all hidden layers."""
    depth: Positive = 1
    """Residual blocks."""
    decays: Decays = DEFAULT_DECAYS
    """One decayed average of the history for each; the last one is the base that is corrected."""

    def build(self, items: ItemTable, history_length: int) -> "ResidualStudent":
        """See ``StudentConfig``."""
        sizes = {"hidden_size": self.hidden_size, "depth": self.depth}
        return ResidualStudent(items, history_length, **sizes, decays=self.decays, dropout=self.dropout)


class ResidualStudent(AverageStudent):
    """As ``MlpStudent``, with residual blocks between its two layers (ResNet of Gorishniy et al. 2021, arXiv:2106.11959).

    Args:
        items: the item table, size d.
        history_length: L, longest history.
        hidden_size: of all hidden layers.
        depth: residual blocks.
        decays: one average for each; the last is the base.
        dropout: on inputs, in the blocks and on user vectors.
    """

    def __init__(
        self, items: ItemTable, history_length: int, *, hidden_size: int, depth: int, decays: Sequence[float], dropout: float
    ) -> None:
        super().__init__(items, history_length, decays, dropout)
        size = items.embedding_size
        self.read = nn.Sequential(Dropout(dropout), nn.Linear((len(decays) + 1) * size, hidden_size))
        self.blocks = nn.ModuleList(_block(hidden_size, dropout) for _ in range(depth))
        self.write = nn.Sequential(nn.LayerNorm(hidden_size), nn.GELU(), starting_at_zero(nn.Linear(hidden_size, size)))

    def _correction(self, averages: Tensor) -> Tensor:
        states = self.read(averages)
        for block in self.blocks:
            states = states + block(states)
        correction: Tensor = self.write(states)
        return correction


def _block(size: int, dropout: float) -> nn.Sequential:
    """Residual block, normalised at its input (pre-norm), so that the skip connection changes nothing."""
    return nn.Sequential(
        nn.LayerNorm(size), nn.Linear(size, size), nn.GELU(), Dropout(dropout), nn.Linear(size, size), Dropout(dropout)
    )
