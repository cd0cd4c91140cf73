"""The two index kinds behind one interface."""
