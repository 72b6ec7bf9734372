"""Write the lists of an ALS model of the library ``implicit`` for all prefixes of the training sequences, and the test histories.

It needs numpy, scipy, implicit and Polars, but not DistilRec: any program that writes such a table can be a teacher.

    python examples/implicit_lists.py runs/implicit/data runs/implicit/als.parquet
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from implicit.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

LIST_LENGTH = 50
PREFIXES_AT_ONCE = 4096


def main(data: Path, output: Path) -> None:
    """Train on the training part of all users, and write a list for each prefix that a run can use.

    Args:
        data: Folder of a run's data stage.
        output: Parquet file.
    """
    items, offsets, training, test = (
        np.load(data / f"{name}.npy") for name in ("items", "offsets", "validation_start", "test_start")
    )
    item_ids = np.array(json.loads((data / "vocabulary.json").read_text())["item_ids"])
    user_ids = json.loads((data / "user_ids.json").read_text())
    sequences = [items[begin : begin + end] - 1 for begin, end in zip(offsets[:-1], test, strict=True)]  # items are numbered from 1

    model = AlternatingLeastSquares(factors=64, regularization=0.05, iterations=20, random_state=0)
    # What comes after the training part is not the teacher's to see.
    model.fit(matrix([sequence[:end] for sequence, end in zip(sequences, training, strict=True)], len(item_ids)))

    # position: how many items of the user's sequence the list is for. The last one, test, only serves to evaluate the teacher.
    rows = [(user, end) for user in range(len(user_ids)) for end in sorted({*range(1, training[user] + 1), test[user]}) if end > 0]
    lists = list(recommend(model, [sequences[user][:end] for user, end in rows], len(item_ids)))
    table = {
        "user_id": [user_ids[user] for user, _ in rows],
        "position": [int(end) for _, end in rows],
        "item_ids": [item_ids[best].tolist() for best, _ in lists],
        "scores": [scores.tolist() for _, scores in lists],
    }
    pl.DataFrame(table).write_parquet(output)
    print(f"{output}: {len(rows):,} lists of {LIST_LENGTH} items")


def matrix(sequences: list[np.ndarray], item_count: int) -> csr_matrix:
    """Which items each sequence has. float32 [sequences, items]."""
    rows = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    columns = np.concatenate(sequences)
    return csr_matrix((np.ones(len(columns), np.float32), (rows, columns)), shape=(len(sequences), item_count))


def recommend(
    model: AlternatingLeastSquares, prefixes: list[np.ndarray], item_count: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Best items and their scores for each prefix, whose factors are computed from its items alone."""
    for start in range(0, len(prefixes), PREFIXES_AT_ONCE):
        seen = matrix(prefixes[start : start + PREFIXES_AT_ONCE], item_count)
        users = np.arange(seen.shape[0])
        yield from zip(*model.recommend(users, seen, N=LIST_LENGTH, recalculate_user=True), strict=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
