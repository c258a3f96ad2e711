"""Rows in, rows out, resume: datasets that are read and run folders that are written."""
