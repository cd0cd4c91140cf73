"""Checks exported models in a fresh process, which shares no state with the exporting process.

Every check sends a request to ``python -m trainer.probe REQUEST_FILE`` and reads the response. The
module of a check contains a function for the caller, and the function ``answer``, which runs in the
fresh process.

protocol         requests and responses, and the fresh process that answers them
loaded_model     loads a SavedModel, queries the model and measures response times
exported_models  checks newly exported models against NumPy, and measures their recall and speed
questions        the queries for checking newly exported models
numpy_oracle     compares a model's answers with scores and best items that NumPy computes
stored_version   checks the models of a stored version, and measures their recall
rankings         queries exact models for the items that they recommend to given users
"""
