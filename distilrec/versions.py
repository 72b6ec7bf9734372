"""Which version of a model a Triton repository serves: the one that its config.pbtxt pins."""

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.errors import RepositoryError
from distilrec.specs import MODEL_NAME


def served_version(repository: Path, model: str = MODEL_NAME) -> int:
    """The version that a server of this repository loads.

    Raises:
        RepositoryError: there is no config.pbtxt, it cannot be read, or it does not pin one version.
    """
    path = repository / model / "config.pbtxt"
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except OSError as error:
        raise RepositoryError(f"{path}: cannot be read ({error.strerror}). Fill the repository: distilrec export") from error
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise RepositoryError(f"{path}: not a model configuration: {error}. Fill the repository again: distilrec export") from error
    versions = list(config.version_policy.specific.versions)
    if len(versions) != 1:
        raise RepositoryError(
            f"{path}: found versions {versions} pinned, expected one. Fill the repository again: distilrec export"
        )
    return int(versions[0])


def version_folder(repository: Path, model: str = MODEL_NAME) -> Path:
    """Folder of the served version.

    Raises:
        RepositoryError: as ``served_version``.
    """
    return repository / model / str(served_version(repository, model))
