"""The thin service: a user id or an item id in, ranked candidates out."""

#: pyproject.toml says the same; the container image has only the code.
VERSION = "0.1.0"
