"""Checks exported models in a fresh process, which shares no state with the one that wrote them.

Every check sends a request to ``python -m trainer.probe REQUEST_FILE`` and gets a response back.
The module of a check holds both sides: a function for the caller, and the function ``answer``,
which the fresh process runs.

protocol         requests and responses, and the fresh process that answers them
loaded_model     loads a SavedModel, sends queries to it and measures response times
exported_models  checks newly exported models against NumPy, and measures their recall and speed
questions        the queries that newly exported models are checked with
numpy_oracle     the scores and best items of a catalogue, computed with NumPy
stored_version   checks the models of a stored version, and measures their recall
rankings         the items that exact models recommend to given users
"""
