"""Sections ``data`` and ``text``: the interactions, and the model that embeds titles."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from distilrec.config.section import Fraction, Name, Positive, Section


class InteractionColumns(Section):
    """Names of the columns of an interaction file."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    """Numbers in any unit, of which only the order counts, or dates and times, as 2024-05-01T10:00:00Z, 2024-05-01 10:00:00 UTC,
    01.05.2024 10:00, 1 May 2024 or 5/1/2024 10:00 AM (``DataConfig.date_order``). Without a zone they are UTC."""
    event: str | None = None
    """Column that ``DataConfig.events`` selects by."""
    rating: str | None = None
    """Column that ``DataConfig.min_rating`` selects by."""


class ItemColumns(Section):
    """Names of the columns of a catalogue file."""

    item_id: str = "item_id"
    title: str = "title"


class FilterColumn(Section):
    """An attribute of items that requests can filter by."""

    column: str | None = None
    """Column of ``items``; the default is the attribute's name. It holds text or numbers, or lists of them (Parquet)."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """What stands between several values of an item in one text; without it, the whole text is one value."""


class UserColumns(Section):
    """Names of the columns of a user file."""

    user_id: str = "user_id"


class FeatureConfig(Section):
    """Columns of the file ``items`` that are projected into item vectors, besides the title."""

    categories: tuple[str, ...] = ()
    """Columns with one or several values of a kind, such as brand: text, numbers, or lists of them in Parquet."""
    separator: str | None = None
    """What stands between several values of a category in text, for example "|"; None where there is one value."""
    numbers: tuple[str, ...] = ()
    """Columns of numbers, such as price. They are scaled; a value may be missing."""
    texts: tuple[str, ...] = ()
    """Further columns of text, such as a description. They are embedded as titles are (section ``text``)."""
    pictures: tuple[str, ...] = ()
    """Columns of paths of picture files, relative to the folder of ``items`` (section ``image``). A changed picture needs another
    name."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns."""
        return (*self.categories, *self.numbers, *self.texts, *self.pictures)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(
                f"'categories', 'numbers', 'texts' and 'pictures' must be different columns (found {', '.join(self.columns)})"
            )
        if self.separator == "":
            raise ValueError("'separator' must be text, for example \"|\"; leave it out where a category has one value")
        return self


class VectorConfig(Section):
    """Vectors of items by anybody's model (of images, sound or language), one for each item id."""

    file: Path
    """Parquet with the columns item_id and vector (lists of numbers), or .npy: float [rows, size]."""
    ids: Path | None = None
    """.npy: text file with the item id of each row, one a line."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.file.suffix == ".npy") != (self.ids is not None):
            raise ValueError("'ids' (a text file with the item id of each row) belongs to a .npy file, and to no other")
        return self


class DataConfig(Section):
    """Where interactions come from and how they are filtered and split. Give ``source`` or ``interactions``."""

    source: Literal["ml-100k"] | None = None
    """Name of a public data set, which is downloaded and cached."""
    interactions: Path | None = None
    """Your own interactions: .csv, .tsv or .parquet, or a folder of .parquet files as Spark writes it."""
    items: Path | None = None
    """Your own catalogue with titles: .csv, .tsv or .parquet. It is optional; without it the title of an item is its id."""
    users: Path | None = None
    """Attributes of your users: .csv, .tsv or .parquet. Models never read them; they define the groups of users that models are
    evaluated by."""
    columns: InteractionColumns = InteractionColumns()
    item_columns: ItemColumns = ItemColumns()
    user_columns: UserColumns = UserColumns()
    features: FeatureConfig = FeatureConfig()
    """What else ``items`` says of an item."""
    vectors: dict[Name, VectorConfig] = Field(default_factory=dict)
    """Vectors of items by a name of yours, such as "image"."""
    untouched: bool = False
    """Items of ``items`` without interactions are in the catalogue, too; they are scored by their content."""
    cold_fraction: Fraction = 0.0
    """Share of the items whose interactions are all held out, so that ``evaluate`` can judge items that nobody has touched.
    ``run --cold`` sets it to 0.1, in a run of its own."""
    attributes: tuple[str, ...] | None = None
    """Columns of ``users`` that define groups for evaluation. The default is all attributes of a named source (ml-100k: gender,
    age, occupation)."""
    filters: dict[Name, FilterColumn] = Field(default_factory=dict)
    """Attributes of items that requests can filter by, such as ``[data.filters.category]``. No model learns from them."""
    events: tuple[str, ...] | None = None
    """Keep only interactions of these events."""
    min_rating: float | None = None
    """Keep only interactions with at least this rating."""
    date_order: Literal["auto", "day_first", "month_first"] = "auto"
    """What 02/01/2024 means. ``auto``: what the other rows of the column show; where none of them does, it is an error."""
    consecutive_repeats: Literal["keep", "drop"] = "keep"
    """``drop``: of several interactions of a user with the same item, one right after the other, keep the first."""
    k_core: Positive = 5
    """Drop users and items with fewer interactions than this, repeatedly, until all others have as many."""
    max_users: Positive | None = None
    """Number of users to keep, the first in the order of their ids; for trials."""
    split: Literal["leave_one_out", "temporal"] | None = None
    """``leave_one_out``: the last item of each user is for test, the one before for validation (default for named sources).
    ``temporal``: all users are cut at the same two moments (default for your own data)."""
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
        if self.filters and self.items is None:
            raise ValueError("'filters' are columns of 'items' (your own catalogue), which is not set")
        for field in ("event", "rating"):
            setting = "events" if field == "event" else "min_rating"
            if getattr(self, setting) is not None and self.source is None and getattr(self.columns, field) is None:
                raise ValueError(
                    f"'{setting}' selects by a column, which columns.{field} has to name, as columns = {{ {field} = \"{field}\" }}"
                )
        self._check_content()
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction + test_fraction leave nothing to train on")
        return self

    def _check_content(self) -> None:
        if self.source is None and self.items is None and (self.features.columns or self.untouched):
            raise ValueError("'features' and 'untouched' need 'items', a file with a row for each item")
        reserved = {"item_id", "title", self.item_columns.item_id, self.item_columns.title}
        if twice := reserved.intersection(self.features.columns):
            raise ValueError(
                f"'features' must be other columns than those of the id and the title (found {', '.join(sorted(twice))})"
            )
        if twice := reserved.union(self.features.columns).intersection(self.vectors):
            raise ValueError(f"'vectors' must have other names than the columns of 'items' (found {', '.join(sorted(twice))})")

    @property
    def has_cold_items(self) -> bool:
        """Whether items without training interactions are scored by their content."""
        return self.untouched or self.cold_fraction > 0

    @property
    def content(self) -> tuple[str, ...]:
        """Names of all content besides the title."""
        return (*self.features.columns, *self.vectors)

    @property
    def vector_files(self) -> dict[str, Path]:
        """Files of the vectors and of their ids, by what they hold."""
        files = {f"vectors.{name}": vectors.file for name, vectors in self.vectors.items()}
        return files | {f"vectors.{name}.ids": vectors.ids for name, vectors in self.vectors.items() if vectors.ids is not None}

    def content_settings(self) -> dict[str, Any]:
        """The settings of content that are in use, JSON-ready; none for data that has none, whose digest stays what it was."""
        found: dict[str, Any] = {"vectors": sorted(self.vectors)} if self.vectors else {}
        if self.features.columns:
            found["features"] = self.features.model_dump(mode="json", exclude=set() if self.features.pictures else {"pictures"})
        if self.untouched:
            found["untouched"] = True
        if self.cold_fraction:
            found["cold_fraction"] = self.cold_fraction
        return found

    @property
    def split_kind(self) -> Literal["leave_one_out", "temporal"]:
        """``split``, or its default for this kind of data."""
        return self.split or ("leave_one_out" if self.source else "temporal")


class ImageConfig(Section):
    """Embeddings of pictures of items, computed once for all models. They need the extra [image]."""

    model: str | None = None
    """Folder of a vision model of ``transformers`` (ViT, DINOv2, CLIP, ...) with its image processor, or its name on the hub."""
    revision: str = "main"
    """Branch, tag or commit of a model on the hub."""


class TextConfig(Section):
    """Embeddings of item titles, computed once for all models that use text."""

    use: Literal["auto", "on", "off"] = "auto"
    """``auto``: on if the extra [text] is installed and items have titles."""
    model: Path | None = None
    """Folder of a BERT model and its tokenizer; the default is the model of the extra [text]."""
