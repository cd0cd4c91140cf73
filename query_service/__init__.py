"""The thin service: a user id or an item id in, ranked candidates out."""
