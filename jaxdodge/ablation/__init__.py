"""Ablation studies: a file that asks a question, its cells, where they are computed, and the report."""
