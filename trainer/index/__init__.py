"""The two index kinds behind one interface, and how the one is tuned."""


class IndexTuningError(Exception):
    """No index of the kinds that may be used reaches the recall."""
