"""Soft actor-critic: configuration, networks, losses, replay, rollout and updates."""
