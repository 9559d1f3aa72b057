"""The protocol's operations on one environment, for every transport. Source: `docs/api.md`."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from jaxdodge.fields import ConfigError
from jaxdodge.server.game import move_of
from jaxdodge.server.log import ResponseLog
from jaxdodge.server.metrics import Metrics
from jaxdodge.server.protocol import (
    RequestError,
    action_space,
    checked_action,
    checked_fields,
    checked_level,
    error_text,
    ignored_text,
    observation_space,
)
from jaxdodge.server.served_env import Publication, ServedEnv, Transport

# Names in `configure` that are reported, at most.
MOST_REPORTED = 100


class Service:
    """One environment as clients use it.

    Args:
        env: the environment.
        metrics: counts the requests.
        log: keeps the responses; None for no log.
    """

    def __init__(self, env: ServedEnv, metrics: Metrics, log: ResponseLog | None):
        self.env = env
        self.metrics = metrics
        self._log = log
        self._reported: set[str] = set()

    @contextlib.contextmanager
    def request(self, operation: str) -> Iterator[None]:
        """Count a request. An invalid one raises RequestError with one line."""
        start, outcome = time.perf_counter(), "failed"
        try:
            yield
            outcome = "ok"
        except (RequestError, ConfigError) as error:
            outcome = "refused"
            raise RequestError(error_text(error)) from None
        finally:
            self.metrics.count(self.env.number, operation, outcome, time.perf_counter() - start)

    async def respond(self, operation: str, body: Mapping[str, Any], transport: Transport) -> dict[str, Any]:
        """Carry out an operation.

        Args:
            operation: route of the HTTP interface.
            body: JSON object of the request; other operations than step,
                configure and set_level ignore it.
            transport: decides when a realtime environment responds.

        Returns:
            The JSON object of the response, in which the image is
            bytes; empty if it has no content.

        Raises:
            RequestError: invalid request; nothing is applied.
            ConfigError: likewise, from the configuration's own checks.
        """
        if operation == "reset":
            number, publication = await self.env.reset(transport)
            return self._published(number, "reset", None, publication)
        if operation == "step":
            space = self.env.config.action_space_type
            action = checked_action(body.get("action"), space)
            number, publication = await self.env.step(move_of(action, space), transport)
            flags = {name: getattr(publication, name) for name in ("reward", "done", "truncated")}
            return self._published(number, "step", action, publication) | flags
        if operation == "configure":
            await self._configure(body)
        elif operation == "set_level":
            await self.env.configure(checked_level(body.get("level")))
        elif operation == "observation_space":
            return observation_space(self.env.config)
        elif operation == "action_space":
            return action_space(self.env.config)
        return {}

    def _published(self, number: int, kind: str, action: Any, publication: Publication) -> dict[str, Any]:
        if self._log:
            self._log.write(self.env.number, number, kind, action, publication)
        image = {} if publication.image is None else {"image_observation": publication.image}
        return {"observation": publication.observation, **image, "info": publication.info}

    async def _configure(self, body: Mapping[str, Any]) -> None:
        # Unknown names are ignored, as by the original, but each is reported once.
        fields, ignored = checked_fields(body)
        await self.env.configure(fields)
        for name in ignored:
            if name not in self._reported and len(self._reported) < MOST_REPORTED:
                self._reported.add(name)
                print(f"arena {self.env.number}: {ignored_text(name)}", file=sys.stderr, flush=True)
