"""The Python client of a Penchant server: `send` and `recommend` over HTTP, synchronous and asynchronous."""

from penchant.client.clients import AsyncClient, Client
from penchant.client.conversation import ApiError, Refused, Retry, Unavailable

__all__ = ["ApiError", "AsyncClient", "Client", "Refused", "Retry", "Unavailable"]
