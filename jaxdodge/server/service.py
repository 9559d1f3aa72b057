"""The operations of the protocol on one arena, whatever the transport."""

import sys
from collections.abc import Mapping
from typing import Any

from jaxdodge.server.arena import Arena, Publication, Transport
from jaxdodge.server.game import move_of
from jaxdodge.server.log import AnswerLog
from jaxdodge.server.protocol import checked_action, checked_fields, checked_level, ignored_text


class Service:
    """One arena's operations. Raises RefusedError and ConfigError; nothing is then applied."""

    def __init__(self, arena: Arena, log: AnswerLog | None):
        self.arena = arena
        self._log = log
        self._told: set[str] = set()

    async def reset(self, transport: Transport) -> Publication:
        """Begin an episode."""
        number, publication = await self.arena.reset(transport)
        if self._log:
            self._log.write(self.arena.number, number, "reset", None, publication)
        return publication

    async def step(self, action: Any, transport: Transport) -> Publication:
        """Apply an action: an int, or a list of numbers."""
        space = self.arena.config.action_space_type
        checked = checked_action(action, space)
        number, publication = await self.arena.step(move_of(checked, space), transport)
        if self._log:
            self._log.write(self.arena.number, number, "step", checked, publication)
        return publication

    async def configure(self, fields: Mapping[str, Any]) -> None:
        """Set fields. Names that are not the server's are ignored, as there; each is reported once."""
        given, ignored = checked_fields(fields)
        await self.arena.configure(given)
        for name in ignored:
            if name not in self._told and len(self._told) < 100:
                self._told.add(name)
                print(f"arena {self.arena.number}: {ignored_text(name)}", file=sys.stderr, flush=True)

    async def set_level(self, level: Any) -> None:
        """Select a level's preset."""
        await self.arena.configure(checked_level(level))
