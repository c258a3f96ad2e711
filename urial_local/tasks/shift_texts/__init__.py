"""Both models of a pair over plain text: how they differ, and what the aligned one prefers."""
