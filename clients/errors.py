"""Errors between an application and its recommender."""

from distilrec.core.errors import DistilRecError


class ClientError(DistilRecError):
    """Base of all client errors.

    Args:
        reason: What was found, what was expected, what to do.
        url: Address of the server.
        model: Name of the model.
        tried: Attempts so far, for example "3 attempts in 1.2 s".
    """

    def __init__(self, reason: str, *, url: str = "", model: str = "", tried: str = "") -> None:
        super().__init__(reason)
        self.reason, self.url, self.model, self.tried = reason, url, model, tried

    def __str__(self) -> str:
        where = f"{self.url}, model {self.model!r}: " if self.url else ""
        return f"{where}{self.reason}{f' ({self.tried})' if self.tried else ''}"

    def at(self, url: str, model: str, tried: str = "") -> "ClientError":
        """Return the same error with address, model and attempts."""
        return type(self)(self.reason, url=url, model=model, tried=tried)


class ServerUnavailable(ClientError):
    """No server answers at the address, it is shutting down, or the model's process has died."""


class DeadlineExceeded(ClientError):
    """No answer within the timeout."""


class Overloaded(ClientError):
    """The server refuses requests because too many wait already."""


class ModelNotFound(ClientError):
    """The server does not serve this model."""


class VocabularyMismatch(ClientError):
    """Client and server do not mean the same items by the same index."""


class InvalidRequest(ClientError):
    """A request that can have no answer: wrong types, k out of range, too many ids to exclude."""
