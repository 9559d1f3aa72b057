"""The game as a server: the simulator's rules behind the interface of `docs/api.md`."""
