"""Where a client's vocabulary comes from: the application, a file, or the server."""

from collections.abc import Callable
from pathlib import Path

from clients.errors import InvalidRequest, ModelNotFound, VocabularyMismatch
from clients.methods import InferResponse, Request
from clients.model_info import ModelInfo
from clients.steps import Steps, Work
from clients.wire import read_vocabulary_part, vocabulary_request
from distilrec.core.errors import DataError
from distilrec.core.specs import vocabulary_model_of
from distilrec.data.vocabulary import FILE_NAME, Vocabulary, load_vocabulary, parse_vocabulary

VocabularySource = Vocabulary | Path | str | None
"""A vocabulary, a path, or None to get it from the server."""

Infer = Callable[[Request], Steps[InferResponse]]


def check(source: VocabularySource) -> None:
    """Raise DataError if the source is a path that does not exist."""
    if isinstance(source, Path | str) and not Path(source).exists():
        raise DataError(
            f"{source}: no such file or folder, expected a vocabulary.json, the folder of an export, or a model repository."
            " Leave it away, and the server hands the vocabulary over"
        )


def obtain(source: VocabularySource, info: ModelInfo, infer: Infer) -> Steps[Vocabulary]:
    """Get the vocabulary of a served model.

    Args:
        source: Source that the application chose.
        info: Description of the served model.
        infer: Conversation that sends an inference request.

    Raises:
        DataError: a file is not a vocabulary.
        VocabularyMismatch: the vocabulary is not that of the model, or the server hands none over.
    """
    if source is None:
        vocabulary = yield from _from_server(infer, vocabulary_model_of(info.model))
    elif isinstance(source, Vocabulary):
        vocabulary = source
    else:
        path = _file(Path(source), info)
        vocabulary = yield Work(lambda: load_vocabulary(path))
    if vocabulary.sha256 != info.vocabulary_sha256:
        theirs, ours = (sha256[:12] for sha256 in (info.vocabulary_sha256, vocabulary.sha256))
        advice = (
            "a promotion may be under way: try again, and if this stays, export the repository again"
            if source is None
            else "leave vocabulary= away, and the server hands its own over; or give the vocabulary.json of the served version"
        )
        raise VocabularyMismatch(f"version {info.version} means vocabulary {theirs}..., found {ours}...; {advice}")
    return vocabulary


def _file(path: Path, info: ModelInfo) -> Path:
    """Return the path of the file in a model repository or in an export; any other path is the file itself."""
    if not path.is_dir():
        return path
    # During a promotion the version that answers is not yet the one that the repository pins.
    served = path / info.model / info.version / FILE_NAME
    return served if served.exists() else path / FILE_NAME


def _from_server(infer: Infer, model: str) -> Steps[Vocabulary]:
    """Read the server's file in parts; from the start again when a promotion exchanges it meanwhile."""
    content, total, version = bytearray(), 1, None
    while len(content) < total:
        try:
            response = yield from infer(vocabulary_request(len(content), model))
        except ModelNotFound as error:
            raise VocabularyMismatch(
                "the server does not hand its vocabulary over; give vocabulary=, the path of the vocabulary.json that lies next to"
                " the served model"
            ) from error
        except InvalidRequest:
            if not content:
                raise
            content.clear()  # the new file is shorter than what was read of the old one
            continue
        part, total = read_vocabulary_part(response)
        if version not in {None, response.model_version}:
            content.clear()
            part = b""
        version = response.model_version
        content += part
    vocabulary: Vocabulary = yield Work(lambda: parse_vocabulary(bytes(content), "the server's vocabulary"))
    return vocabulary
