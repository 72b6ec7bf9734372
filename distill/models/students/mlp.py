"""Student kind ``mlp``: an MLP over decayed averages of a history."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from distill.models.dropout import Dropout
from distill.models.item_table import ItemTable
from distill.models.students._base import DEFAULT_DECAYS, AverageStudent, Decays
from distilrec.config import StudentConfig
from distilrec.config.section import Positive


class MlpStudentConfig(StudentConfig):
    """A student that reads decayed averages of the history through one hidden layer."""

    kind: Literal["mlp"] = "mlp"
    hidden_size: Positive = 128
    """Width of the hidden layer."""
    decays: Decays = DEFAULT_DECAYS
    """One decayed average of the history for each; the last one is the base that is corrected."""

    def build(self, items: ItemTable, history_length: int) -> "MlpStudent":
        """See ``StudentConfig``."""
        return MlpStudent(items, history_length, self.hidden_size, self.decays, self.dropout)


class MlpStudent(AverageStudent):
    """An MLP over decayed averages of the history's item vectors and the last item, added to the most recent average.

    Args:
        items: the item table, size d.
        history_length: L, longest history.
        hidden_size: of the MLP's hidden layer.
        decays: one average for each; the last is the base.
        dropout: on inputs, hidden layer and user vectors.
    """

    def __init__(self, items: ItemTable, history_length: int, hidden_size: int, decays: Sequence[float], dropout: float) -> None:
        super().__init__(items, history_length, decays, dropout)
        size = items.embedding_size
        self.mlp = nn.Sequential(
            Dropout(dropout),
            nn.Linear((len(decays) + 1) * size, hidden_size),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(hidden_size, size),
        )

    def _correction(self, averages: Tensor) -> Tensor:
        correction: Tensor = self.mlp(averages)
        return correction
