"""Input files as tables of columns that are read, with errors that name file and row."""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from distilrec.core.errors import DataError
from distilrec.core.manifest import sha256_of_file, sha256_of_json

ROW = "row"
SEPARATORS = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}
_HEAD_BYTES = 1 << 16
_SHOWN_COLUMNS, _SHOWN_CHARACTERS = 20, 60
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16 or UTF-32", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}


@dataclass(frozen=True)
class FileTable:
    """Columns of a file under their standard names, and a column ``row``: the number of the row as an editor shows it."""

    path: Path
    columns: dict[str, str]
    """Name in the file by standard name."""
    frame: pl.DataFrame

    @property
    def is_text(self) -> bool:
        """Whether the file is CSV or TSV, whose quotes may be damaged."""
        return suffix_of(self.path) in SEPARATORS


def read_table(path: Path, columns: dict[str, str]) -> FileTable:
    """Read some columns of a CSV, TSV or Parquet file; those of text files are text as it is written.

    A folder is one table of the ``*.parquet`` files below it, as Spark writes it, in order of their paths. Its rows are counted
    through all files.

    Args:
        path: File, whose suffix names its type, or folder.
        columns: Name in the file by standard name.

    Raises:
        DataError: The file cannot be read, is not UTF-8 text, is damaged, or lacks a column or has it twice.
    """
    suffix = suffix_of(path)
    if suffix not in {*SEPARATORS, ".parquet"} and not path.is_dir():
        expected = ".csv, .tsv (also .gz), .parquet, or a folder of .parquet"
        raise DataError(f"{path}: found a file of type {suffix or 'unknown'!r}, expected {expected}")
    with _named_errors(path):
        if path.is_dir():
            frame = _read_parts(path, columns)
        else:
            frame = _read_parquet(path, columns) if suffix == ".parquet" else _read_text(path, columns, SEPARATORS[suffix])
    first_row = 2 if suffix in SEPARATORS else 1  # the header is row 1 of a text file
    selected = frame.select(pl.col(found).alias(name) for name, found in columns.items())
    return FileTable(path, columns, selected.with_row_index(ROW, offset=first_row))


def column_names(path: Path) -> list[str]:
    """Names of the columns of a file that ``read_table`` can read."""
    suffix = suffix_of(path)
    with _named_errors(path):
        if suffix == ".parquet" or path.is_dir():
            return list(pl.read_parquet_schema(files_of(path)[0]))
        return pl.read_csv(path, separator=SEPARATORS[suffix], infer_schema=False, glob=False, n_rows=0).columns


def files_of(path: Path) -> list[Path]:
    """The files of a table: the path itself, or the Parquet files below a folder in order of their paths.

    Files whose names, or folders' names, begin with "_" or "." are left out, as Spark keeps unfinished and hidden ones there.

    Raises:
        DataError: The folder holds none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*.parquet") if not any(p[0] in "_." for p in file.relative_to(path).parts))
    if not files:
        raise DataError(f"{path}: found a folder without a .parquet file, expected some. Correct the path in section [data].")
    return files


def digest_of(path: Path) -> str:
    """sha256 of a file, or of the names and digests of a folder's files.

    Raises:
        OSError: A file cannot be read.
        DataError: As ``files_of``.
    """
    if not path.is_dir():
        return sha256_of_file(path)
    return sha256_of_json({file.relative_to(path).as_posix(): sha256_of_file(file) for file in files_of(path)})


def suffix_of(path: Path) -> str:
    """Suffix of a file's name; for a compressed file both suffixes, for example ".csv.gz"."""
    return "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix


def shown(value: object) -> str:
    """A found value as error messages show it: escaped, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn the errors of readers into a DataError that names the file; a panic of Polars, too, which is no Exception."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a data file. Correct the path in section [data].") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, EOFError, zlib.error) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"{path}: cannot be read ({reason[:200]}), expected a whole {suffix_of(path)} file. Write or copy it again."
        ) from error


def _read_parts(folder: Path, columns: dict[str, str]) -> pl.DataFrame:
    """Read the parts of a folder, which must have the same types.

    Raises:
        DataError: There is none, or one cannot be read, lacks a column or has it with another type.
    """
    files = files_of(folder)
    frames: list[pl.DataFrame] = []
    for file in files:
        with _named_errors(file):
            frame = _read_parquet(file, columns)
        if frames and frame.schema != frames[0].schema:
            other = next(name for name, dtype in frame.schema.items() if dtype != frames[0].schema[name])
            raise DataError(
                f"{file}: found column {other!r} of type {frame.schema[other]}, expected {frames[0].schema[other]} as in"
                f" {files[0].name}. Write all parts alike"
            )
        frames.append(frame)
    return pl.concat(frames)


def _read_parquet(path: Path, columns: dict[str, str]) -> pl.DataFrame:
    _check_columns(path, list(pl.read_parquet_schema(path)), columns)
    return pl.read_parquet(path, columns=list(dict.fromkeys(columns.values())), glob=False)


def _read_text(path: Path, columns: dict[str, str], separator: str) -> pl.DataFrame:
    _check_head(path)
    try:
        frame = pl.read_csv(path, separator=separator, infer_schema=False, glob=False)
    except pl.exceptions.NoDataError:
        raise DataError(f"{path}: found no text, expected a row of column names and rows of data") from None
    except pl.exceptions.PolarsError:
        _name_faulty_row(path, separator)
        raise
    _check_columns(path, frame.columns, columns)
    # Polars gives the second of two columns of the same name this one.
    repeated = [name for name in columns.values() if f"{name}_duplicated_0" in frame.columns]
    if repeated:
        names = ", ".join(map(repr, repeated))
        raise DataError(f"{path}: row 1: found column {names} more than once, expected it once. Rename or remove the others.")
    return frame


def _check_columns(path: Path, found: list[str], columns: dict[str, str]) -> None:
    missing = [name for name in columns.values() if name not in found]
    if missing:
        names = [name if name.isprintable() and len(name) <= _SHOWN_CHARACTERS else shown(name) for name in found[:_SHOWN_COLUMNS]]
        more = f" and {len(found) - _SHOWN_COLUMNS} more" if len(found) > _SHOWN_COLUMNS else ""
        raise DataError(
            f"{path}: found columns {', '.join(names)}{more}; expected also {', '.join(missing)}. "
            "Name your columns in [data.columns], [data.item_columns], [data.user_columns] and data.attributes."
            f"{_hint(path, found, columns, missing)}"
        )


def _hint(path: Path, found: list[str], columns: dict[str, str], missing: list[str]) -> str:
    """What may be wrong with the columns: the separator, a missing header, or names that are written in another way."""
    others = [character for character in ";\t|," if len(found) == 1 and found[0].count(character) >= len(columns) - 1 > 0]
    if others and suffix_of(path) in SEPARATORS:
        return f" The row of names seems to be separated by {others[0]!r}, expected {SEPARATORS[suffix_of(path)]!r}."
    if len(missing) == len(columns) and any(re.fullmatch(r"[\d.:/ TZ+-]+", name) for name in found):
        return " Row 1 looks like data: write a row of column names above it."
    alike = {_plain(name): name for name in found}
    guessed = {name: alike[_plain(of)] for name, of in columns.items() if of in missing and _plain(of) in alike}
    named = ", ".join(f'{name} = "{of}"' for name, of in guessed.items())
    return f" For example: {{ {named} }}." if named and named.isprintable() else ""


def _plain(name: str) -> str:
    """A name without what is written differently: user_id, userId and "User ID" are alike."""
    return re.sub(r"[\W_]", "", name).casefold()


def _check_head(path: Path) -> None:
    """Refuse what Polars would read as names of columns: text that is not UTF-8, binary content, line ends that are CR alone."""
    with _opened(path) as file:
        head = file.read(_HEAD_BYTES)
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    if encoding is None and b"\0" in head:
        row = head[: head.index(b"\0")].count(b"\n") + 1
        encoding = f"NUL bytes in row {row} (a binary or damaged file, or UTF-16)"
    if encoding is not None:
        raise DataError(f"{path}: found {encoding}, expected UTF-8 text. Convert it, as with: iconv -f UTF-16 -t UTF-8")
    if b"\r" in head.partition(b"\n")[0].removesuffix(b"\r"):
        raise DataError(
            f"{path}: found lines that end with CR alone, expected LF or CR LF. Convert them, as with: tr '\\r' '\\n' < old > new"
        )


def _name_faulty_row(path: Path, separator: str) -> None:
    """Raise a DataError for the first row with more fields than the header, a damaged quote or bytes that are not UTF-8, if any."""
    begin = 1
    with _opened(path) as file:
        reader = csv.reader(_decoded(path, file), delimiter=separator, strict=True)
        try:
            header = len(next(reader, []))
            begin = reader.line_num + 1
            for row in reader:
                if len(row) > header:
                    raise DataError(
                        f"{path}: row {begin}: found {len(row)} fields, expected {header} as in the header. Put quotes around"
                        " fields that contain the separator."
                    )
                begin = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{path}: row {begin}: found a field that does not end ({error}), expected quotes in pairs, or none"
            ) from error


def _decoded(path: Path, file: IO[bytes]) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            found = line[error.start : error.start + 4]
            raise DataError(
                f"{path}: row {number}: found bytes that are not UTF-8 ({found!r}), expected UTF-8 text. Convert it, as with: iconv"
                " -f LATIN1 -t UTF-8"
            ) from None


def _opened(path: Path) -> IO[bytes]:
    """The file, decompressed where its content is gzip, whatever its name is."""
    with path.open("rb") as file:
        compressed = file.read(len(_GZIP)) == _GZIP
    return gzip.open(path, "rb") if compressed else path.open("rb")  # type: ignore[return-value]
