"""The game as a server: the rules are the simulator's, the protocol is `docs/api.md`."""
