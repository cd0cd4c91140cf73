"""The two towers: a user or an item in, a vector out."""
