"""The ground floor: errors, paths, file headers. Knows nothing of models, prompts or commands."""
