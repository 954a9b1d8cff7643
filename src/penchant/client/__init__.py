"""The Python client of a Penchant server: `send` and `recommend` over HTTP, synchronous and asynchronous.

`emit` writes events in an application's own transaction, where the outbox is in its PostgreSQL.
"""

from penchant.client.clients import AsyncClient, Client
from penchant.client.conversation import ApiError, Refused, Retry, Unavailable
from penchant.client.outbox import emit

__all__ = ["ApiError", "AsyncClient", "Client", "Refused", "Retry", "Unavailable", "emit"]
