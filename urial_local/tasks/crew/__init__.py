"""Rows made by several workers: processes on this machine, one for each device, or Ray's actors.

The driver reads the dataset, owns the run's log and is its only writer. A worker holds a model and
an engine, is sent rows to make, a few more than it makes at a time, and sends them back as they are
finished. Who is sent what, `schedule` decides; it knows neither models nor processes.
"""
