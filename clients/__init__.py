"""What an application imports: recommendations by string ids, over gRPC. Needs no torch."""

from clients.async_client import AsyncRecommenderClient
from clients.client import RecommenderClient
from clients.codec import Recommendations
from clients.connection import Tls
from clients.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    ServerUnavailable,
    VocabularyMismatch,
)
from clients.model_info import ModelInfo
from clients.recorder import Recorder
from clients.session import Health

__all__ = [
    "AsyncRecommenderClient",
    "ClientError",
    "DeadlineExceeded",
    "Health",
    "InvalidRequest",
    "ModelInfo",
    "ModelNotFound",
    "Overloaded",
    "Recommendations",
    "RecommenderClient",
    "Recorder",
    "ServerUnavailable",
    "Tls",
    "VocabularyMismatch",
]
