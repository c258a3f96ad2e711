"""Pages and figures made from what a task has found."""
