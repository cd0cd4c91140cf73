"""The two towers and how they are trained. Knows nothing of indexes and exports."""
