"""What can go wrong between an application and its recommender."""

from distilrec.errors import DistilRecError


class ClientError(DistilRecError):
    """Base of all client errors. Messages name the address and the model."""


class ServerUnavailable(ClientError):
    """No server answers at the address, or it is shutting down."""


class DeadlineExceeded(ClientError):
    """No answer within the timeout."""


class ModelNotFound(ClientError):
    """The server does not serve this model."""


class VocabularyMismatch(ClientError):
    """Client and server do not mean the same items by the same index."""


class InvalidRequest(ClientError):
    """A request that can have no answer: wrong types, or k out of range."""
