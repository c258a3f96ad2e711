"""The command line: one module per command. Commands parse, call the library and render."""
