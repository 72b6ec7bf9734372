"""Sections ``data`` and ``text``: where interactions come from, and what reads titles."""

from pathlib import Path
from typing import Literal, Self

from pydantic import model_validator

from distilrec.config.section import Fraction, Positive, Section


class InteractionColumns(Section):
    """Names of the columns of an interaction file."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    """Numbers (any unit, used for order only) or ISO 8601 dates and times."""
    event: str | None = None
    """Column that ``DataConfig.events`` selects by."""
    rating: str | None = None
    """Column that ``DataConfig.min_rating`` selects by."""


class ItemColumns(Section):
    """Names of the columns of a catalogue file."""

    item_id: str = "item_id"
    title: str = "title"


class UserColumns(Section):
    """Names of the columns of a user file."""

    user_id: str = "user_id"


class DataConfig(Section):
    """Where interactions come from and how they are filtered and split. Give ``source`` or ``interactions``."""

    source: Literal["ml-100k"] | None = None
    """A named data set, downloaded and cached."""
    interactions: Path | None = None
    """Your own interactions: .csv, .tsv or .parquet."""
    items: Path | None = None
    """Your own catalogue with titles: .csv, .tsv or .parquet. Optional; without it an item's title is its id."""
    users: Path | None = None
    """What is known of your users: .csv, .tsv or .parquet. Models never read it; it only says in which groups they are judged."""
    columns: InteractionColumns = InteractionColumns()
    item_columns: ItemColumns = ItemColumns()
    user_columns: UserColumns = UserColumns()
    attributes: tuple[str, ...] | None = None
    """Columns of ``users`` to judge groups by. The default is all that a named source has (ml-100k: gender, age, occupation)."""
    events: tuple[str, ...] | None = None
    """Keep only interactions of these events."""
    min_rating: float | None = None
    """Keep only interactions rated at least so."""
    k_core: Positive = 5
    """Drop users and items with fewer interactions than this, until none is left to drop."""
    max_users: Positive | None = None
    """Keep only the first so many users, in the order of their ids; for trials."""
    split: Literal["leave_one_out", "temporal"] | None = None
    """``leave_one_out``: each user's last item is for test, the one before for validation (default for named sources).
    ``temporal``: one cut in time for all users (default for your own data)."""
    validation_fraction: Fraction = 0.1
    """``temporal``: share of interactions between the validation cut and the test cut."""
    test_fraction: Fraction = 0.1
    """``temporal``: share of interactions after the test cut."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.source is None) == (self.interactions is None):
            raise ValueError("give either 'source' (a named data set) or 'interactions' (your own file)")
        if self.source is None and (self.users is None) != (not self.attributes):
            raise ValueError("'users' (a file) and 'attributes' (its columns to judge groups by) belong together")
        if self.source is not None and self.users is not None:
            raise ValueError("'users' is for your own interactions; a named source brings its own")
        if len(set(self.attributes or ())) != len(self.attributes or ()) or "user_id" in (self.attributes or ()):
            raise ValueError("'attributes' must be different columns, none of them 'user_id'")
        for field in ("event", "rating"):
            setting = "events" if field == "event" else "min_rating"
            if getattr(self, setting) is not None and self.source is None and getattr(self.columns, field) is None:
                raise ValueError(f"'{setting}' selects by the column named in columns.{field}, which is not set")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction leave nothing to train on")
        return self

    @property
    def split_kind(self) -> Literal["leave_one_out", "temporal"]:
        """``split``, or its default for this kind of data."""
        return self.split or ("leave_one_out" if self.source else "temporal")


class TextConfig(Section):
    """Embeddings of item titles, made once for all models that take text in."""

    use: Literal["auto", "on", "off"] = "auto"
    """``auto``: when the extra [text] is installed."""
    model: Path | None = None
    """Folder of a BERT model and tokenizer; the default is the one that comes with the extra [text]."""
