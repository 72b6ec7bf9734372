"""Settings that all models share which embed items: what is known of an item and projected into its vector."""

from distilrec.config.section import Fraction, Section

COLD_ID_DROPOUT = 0.1
"""``id_dropout`` where the catalogue has items that nobody has touched."""

UNKNOWN_SHARE = 0.1
"""Default of ``unknown_share``."""


class ItemVectorConfig(Section):
    """What an item vector is made of besides its learned part. Nothing of it is left at inference."""

    text: bool = True
    """Add projected title embeddings to the item vectors, where there are any (section ``text``)."""
    content: tuple[str, ...] | None = None
    """Names of the features and vectors of section ``data`` that are added likewise. None for all of them."""
    id_dropout: Fraction | None = None
    """Share of the items that are known by their content alone in a training step, drawn again in each (DropoutNet, Volkovs et al.
    2017), so that content alone is a usable vector. None is 0.1 where items without interactions are in the catalogue, else 0."""

    unknown_share: Fraction | None = None
    """With ``id_dropout``: share of the first ten recommendations that items without interactions get, on average over validation
    users. As it knows little of them, a model would leave them out nearly always. None is 0.1, and 0 leaves them as they are."""

    def unset(self) -> set[str]:
        """Names of the settings that are left out of manifests: without them, a model is what it was before they existed."""
        return {name for name in ("content", "id_dropout", "unknown_share") if getattr(self, name) is None}

    def selected(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of all names of content that this model reads."""
        return names if self.content is None else tuple(name for name in names if name in self.content)

    def share_of_unknown(self) -> float:
        """``unknown_share`` or its default."""
        return UNKNOWN_SHARE if self.unknown_share is None else self.unknown_share

    def dropout_of_ids(self, *, cold_items: bool) -> float:
        """``id_dropout`` or its default."""
        return (COLD_ID_DROPOUT if cold_items else 0.0) if self.id_dropout is None else self.id_dropout
