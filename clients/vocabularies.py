"""Where a client's vocabulary comes from: given, a path, or handed over by the server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from clients.errors import InvalidRequest, ModelNotFound, VocabularyMismatch
from clients.model_info import ModelInfo
from clients.steps import Steps, Work
from clients.wire import read_vocabulary_part, vocabulary_request
from distilrec.core.errors import DataError
from distilrec.data.vocabulary import FILE_NAME, Vocabulary, load_vocabulary, parse_vocabulary

Given = Vocabulary | Path | str | None
Ask = Callable[[Any], Steps[Any]]


def check(given: Given) -> None:
    """Raise DataError unless there is something at a path."""
    if isinstance(given, Path | str) and not Path(given).exists():
        raise DataError(
            f"{given}: no such file or folder, expected a vocabulary.json, the folder of an export, or a model repository."
            " Leave it away, and the server hands the vocabulary over"
        )


def obtain(given: Given, info: ModelInfo, ask: Ask) -> Steps[Vocabulary]:
    """Get the vocabulary of a served model.

    Args:
        given: as the application said.
        info: of the model.
        ask: sends an inference request.

    Raises:
        DataError: a file is not a vocabulary.
        VocabularyMismatch: it is another vocabulary, or the server hands none over.
    """
    if given is None:
        vocabulary: Vocabulary = yield from _from_server(ask)
    elif isinstance(given, Vocabulary):
        vocabulary = given
    else:
        path = _file(Path(given), info)
        vocabulary = yield Work(lambda: load_vocabulary(path))
    if vocabulary.sha256 != info.vocabulary_sha256:
        theirs, ours = (sha256[:12] for sha256 in (info.vocabulary_sha256, vocabulary.sha256))
        advice = (
            "a promotion may be under way: try again, and if this stays, export the repository again"
            if given is None
            else "leave vocabulary= away, and the server hands its own over; or give the vocabulary.json of the served version"
        )
        raise VocabularyMismatch(f"version {info.version} means vocabulary {theirs}..., found {ours}...; {advice}")
    return vocabulary


def _file(path: Path, info: ModelInfo) -> Path:
    """The vocabulary's file in a repository, an export, or that file itself."""
    if not path.is_dir():
        return path
    # The version that answers, which during a promotion is not yet the one that the repository pins.
    served = path / info.model / info.version / FILE_NAME
    return served if served.exists() else path / FILE_NAME


def _from_server(ask: Ask) -> Steps[Vocabulary]:
    """Read the server's file in parts."""
    content, total, version = bytearray(), 1, None
    while len(content) < total:
        try:
            response = yield from ask(vocabulary_request(len(content)))
        except ModelNotFound as error:
            raise VocabularyMismatch(
                "the server does not hand its vocabulary over; give vocabulary=, the path of the vocabulary.json that lies beside"
                " the served model"
            ) from error
        except InvalidRequest:
            if not content:
                raise
            content.clear()  # a promotion to a shorter one came in between: from the start
            continue
        part, total = read_vocabulary_part(response)
        if version not in {None, response.model_version}:  # a promotion came in between: from the start
            content.clear()
            part = b""
        version = response.model_version
        content += part
    found: Vocabulary = yield Work(lambda: parse_vocabulary(bytes(content), "the server's vocabulary"))
    return found
