"""Section ``update``: how a finished run learns from new events."""

from typing import Annotated

from pydantic import Field

from distilrec.config.section import Fraction, Positive, Section


class UpdateConfig(Section):
    """How the student is trained further on new events. What is not set here is as in section ``student``."""

    epochs: Positive = 10
    """Most passes over the new events and the replay."""
    patience: Positive = 2
    """Epochs without a better validation NDCG@10 after which the training stops."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """None is that of the student."""
    dropout: Fraction | None = None
    """None is that of the student."""
    exemplars: Positive = 20_000
    """Most earlier sequences that are kept and replayed: the time of an update grows with them and the new events alone."""
    former_weight: Annotated[float, Field(ge=0)] = 1.0
    """lambda of ADER (Mi et al. 2020) before it follows the share of old items and data: how much the soft targets of the former
    student count on the replay. 0 replays without them."""
    judged_users: Positive = 1000
    """Most users whose newest event is held out for early stopping, as many again for the verdict, and most earlier held-out users
    that forgetting is judged by."""
    min_events: Positive | None = None
    """Events after which an unknown item without a row in the catalogue becomes an item. None is ``data.k_core``."""
    remembered_users: Positive = 200_000
    """Most users whose recent items are remembered, those who came last. Others count as new users when they return."""
    max_loss: Fraction = 0.02
    """Budget of forgetting: share of NDCG@10 that the update may lose on earlier held-out users."""
