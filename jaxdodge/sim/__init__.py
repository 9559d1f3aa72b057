"""The game: one `State`, eleven systems named as the real game's, a frame as their fold."""
