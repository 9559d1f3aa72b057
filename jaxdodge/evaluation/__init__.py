"""Episodes, statistics over them, and how they are printed."""
