"""The search for a better configuration: where, how long, judged by what."""
