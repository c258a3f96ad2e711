"""The command line: one module per command, which parses, calls the library and renders. What
commands share lies in `plumbing`."""
