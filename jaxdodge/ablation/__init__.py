"""Ablation studies: study files, execution of their cells, and reports."""
