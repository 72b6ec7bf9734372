"""Every error DistilRec raises on purpose. Messages say what was found, what was expected and what to do."""


class DistilRecError(Exception):
    """Base of all errors below: catch this one to catch them all."""


class ConfigError(DistilRecError):
    """Settings that cannot be used; the message lists all faults at once."""


class DataError(DistilRecError):
    """Interaction or catalogue data that cannot be used; the message names file, column and row."""


class DataWarning(UserWarning):
    """Input that was corrected or dropped; the message states the number of rows, the file, the column and the first row."""


class ManifestError(DistilRecError):
    """A stage folder that is missing, incomplete, not what its manifest says, or cannot be written."""


class RunLockedError(DistilRecError):
    """A run's folder in which another process is running stages."""


class ParityError(DistilRecError):
    """A converted model whose answers differ from those of its original."""


class CalibrationError(DistilRecError):
    """Calibration data that cannot be used, or activations that cannot be represented."""


class PrecisionError(DistilRecError):
    """A model that cannot be converted to a precision, or is not in the precision it states."""


class EngineError(DistilRecError):
    """A TensorRT engine that cannot be built, or must not be run here."""


class RepositoryError(DistilRecError):
    """A Triton model repository that cannot be written or served."""


class UnwritableRepositoryError(RepositoryError):
    """A Triton model repository in which nothing can be written: a read-only mount, or no rights."""


class ServerError(DistilRecError):
    """A Triton server that cannot be found, started or kept running."""


class TuningError(DistilRecError):
    """A search for settings that cannot continue, or has no result to choose from."""


class HubError(DistilRecError):
    """The Hugging Face hub refuses a request or cannot be reached."""


class LoadError(DistilRecError):
    """A load test whose own client processes failed. Errors of the server are counted, not raised."""


class MissingExtraError(DistilRecError):
    """An optional dependency that is not installed; the message holds the command that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed, and this step needs it. Install it with: pip install 'distilrec[{extra}]'")
