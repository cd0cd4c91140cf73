"""A real Redis on a free port, and the writes of another program into it."""

from typing import Any

import redis

from query_service.stores.redis import KEY_PREFIX
from tests.skips import needs_program
from tools import redis_server

needs_redis = needs_program("redis-server", "apt-get install redis-server")


class RedisServer(redis_server.RedisServer):
    """A Redis process that can be killed, paused and started again on its port."""

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(port=self.port, **options)

    def sees(self, user_id: str, *items: str | bytes) -> None:
        """Record seen items as another team's pipeline would write them."""
        with self.client() as client:
            client.sadd(KEY_PREFIX + user_id, *items)
