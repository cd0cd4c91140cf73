"""What is saved: queries and an index as one module with signatures. Knows no training."""
