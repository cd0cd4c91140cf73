"""Hyperparameter search: trains with many settings and writes the best ones to a file.

Every trial is evaluated on validation rows, which are held out of the training rows; test rows are
never used. The search ends after a time budget, a number of trials, or an interrupt.

pipeline    splits the data, runs the search and writes the result
search      runs trials until a limit is reached
space       the settings that are searched, and their bounds
objective   trains with one configuration and evaluates it
metrics     the metrics that a search can maximize
terminal    shows progress and the best trials
"""
