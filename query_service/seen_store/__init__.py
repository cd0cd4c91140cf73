"""Where seen items are kept: one interface, its implementations."""
