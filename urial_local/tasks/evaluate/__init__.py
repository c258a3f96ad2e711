"""Judges answers on several aspects, with a reason for each score, and says what comes of it."""
