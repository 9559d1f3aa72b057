"""The agent: networks, replay, SAC, evaluation and runs on disk."""
