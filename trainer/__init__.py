"""Training and export: rows -> towers -> vectors -> index -> version."""
