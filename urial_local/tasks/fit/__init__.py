"""Chooses a prompt for one model, by measurement."""
