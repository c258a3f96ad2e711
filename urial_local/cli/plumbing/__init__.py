"""What commands share: options, the terminal, tables, and the course of a run."""
