"""What an application imports: recommendations by string ids, over gRPC. Needs no torch."""

from clients.client import RecommenderClient
from clients.codec import Recommendations

__all__ = ["Recommendations", "RecommenderClient"]
