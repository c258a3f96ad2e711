"""All wording: frames, prompts, importing and linting them. Knows nothing of models or engines."""
