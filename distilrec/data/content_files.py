"""Readers of what is known of items: feature columns of the catalogue's file, and files of vectors."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from distilrec.config import FeatureConfig, VectorConfig
from distilrec.core.errors import DataError, DataWarning
from distilrec.data.content import ItemContent
from distilrec.data.files import read_table, shown
from distilrec.data.tables import id_texts


def item_content(
    item_ids: Sequence[str], catalogue: pl.DataFrame, features: FeatureConfig, files: Mapping[str, VectorConfig]
) -> ItemContent | None:
    """What is known of these items; None where the settings name no content.

    Args:
        item_ids: Ids in the order of the item indices.
        catalogue: The catalogue as ``tables.read_items`` returns it.
        features: Columns of the catalogue that are read.
        files: Files of vectors by name.

    Raises:
        DataError: A file cannot be read or holds wrong vectors.
    """
    if not (features.columns or files):
        return None
    ids = pl.DataFrame({"item_id": list(item_ids)}, schema={"item_id": pl.String})
    found = ids.join(catalogue, on="item_id", how="left", maintain_order="left")
    columns = [pl.col(name).fill_null(pl.lit([], pl.List(pl.String))) for name in features.categories]
    columns += [pl.col(name) for name in features.numbers]
    columns += [pl.col(name).fill_null("") for name in (*features.texts, *features.pictures)]
    return ItemContent(
        found.select("item_id", *columns),
        {name: _aligned(name, ids["item_id"], *read_vectors(name, file)) for name, file in files.items()},
    )


def read_vectors(name: str, config: VectorConfig) -> tuple[pl.Series, NDArray[np.float32]]:
    """Ids (text [n]) and vectors (float32 [n, size]) of a file.

    Args:
        name: Name of the vectors in errors.
        config: The file.

    Raises:
        DataError: The file cannot be read, or has an id twice, vectors of different lengths, or values that are no numbers.
    """
    where = f"data.vectors.{name}: {config.file}"
    ids, vectors = _read_parquet(where, config.file) if config.ids is None else _read_npy(where, config.file, config.ids)
    if not vectors.size:
        raise DataError(f"{where}: found no vector, expected one for each item")
    faulty = ~np.isfinite(vectors).all(axis=1)
    if faulty.any():
        row = int(faulty.argmax())
        raise DataError(
            f"{where}: row {row + 1} (item {shown(ids[row])}): found NaN or an infinite value, expected numbers"
            f" ({int(faulty.sum())} row(s) like this). Leave items without a vector out"
        )
    repeated = ids.is_duplicated()
    if repeated.any():
        raise DataError(
            f"{where}: row {int(repeated.arg_true()[0]) + 1}: found item {shown(ids.filter(repeated)[0])} twice, expected one"
            f" vector for each item ({ids.filter(repeated).n_unique()} item(s) like this)"
        )
    return ids, vectors.astype(np.float32)


def _read_parquet(where: str, path: Path) -> tuple[pl.Series, NDArray[np.float32]]:
    if path.suffix != ".parquet":
        raise DataError(f"{where}: found a file of type {path.suffix!r}, expected .parquet or .npy")
    table = read_table(path, {"item_id": "item_id", "vector": "vector"})
    vectors = table.frame["vector"]
    dtype = vectors.dtype
    if not isinstance(dtype, pl.List | pl.Array) or not (dtype.inner is not None and dtype.inner.is_numeric()):
        raise DataError(f"{where}: column 'vector': found {dtype}, expected lists of numbers")
    lists = vectors.cast(pl.List(pl.Float32))
    lengths = lists.list.len()
    expected = int(lengths.drop_nulls().mode().sort()[0]) if lengths.count() else 0
    faulty = (lengths != expected).fill_null(value=True) | lists.list.eval(pl.element().is_null()).list.any()
    if faulty.any():
        row = int(faulty.arg_true()[0])
        found = (
            "none" if lengths[row] is None else f"one with {lengths[row]} numbers" if lengths[row] != expected else "an empty value"
        )
        raise DataError(
            f"{where}: row {row + 1} (item {shown(table.frame['item_id'][row])}): found {found}, expected vectors of {expected}"
            f" numbers ({int(faulty.sum())} row(s) like this)"
        )
    ids = id_texts(table, table.frame, "item_id")
    if ids.null_count():
        raise DataError(f"{where}: row {int(ids.is_null().arg_true()[0]) + 1}: found no item_id, expected the id of an item")
    return ids, lists.explode().to_numpy().reshape(len(ids), expected)


def _read_npy(where: str, path: Path, ids_path: Path) -> tuple[pl.Series, NDArray[np.float32]]:
    try:
        vectors = np.load(path, allow_pickle=False)
        ids = ids_path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{where}: cannot be read ({error}), expected an array of .npy and a text file of ids") from error
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or len(vectors) != len(ids):
        raise DataError(
            f"{where}: found an array of {vectors.dtype} {list(vectors.shape)} and {len(ids)} ids in {ids_path}, expected numbers"
            " [rows, size] and an id for each row"
        )
    return pl.Series("item_id", [item_id.strip() for item_id in ids], pl.String), vectors


def _aligned(name: str, item_ids: pl.Series, ids: pl.Series, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors in the order of ``item_ids``, float32 [N, size]; zeros, and a warning, for items without one."""
    rows = pl.DataFrame({"item_id": ids, "row": np.arange(len(ids))})
    found = item_ids.to_frame().join(rows, on="item_id", how="left", maintain_order="left")["row"]
    missing = found.is_null()
    if missing.all():
        raise DataError(
            f"data.vectors.{name}: found none of the {len(item_ids):,} items of the catalogue among {len(ids):,} ids (the first:"
            f" {shown(ids[0])}), expected ids as in the catalogue ({shown(item_ids[0])})"
        )
    if missing.any():
        message = (
            f"data.vectors.{name}: {int(missing.sum()):,} item(s) have no vector (first: {shown(item_ids.filter(missing)[0])})"
        )
        warnings.warn(message, DataWarning, stacklevel=2)
    aligned = np.zeros((len(item_ids), vectors.shape[1]), np.float32)
    known = ~missing.to_numpy()
    aligned[known] = vectors[found.drop_nulls().to_numpy()]
    return aligned
