"""Answers every row of a dataset with a model under a prompt."""
