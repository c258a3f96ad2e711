"""What a user sets out to do. Joins prompting, which knows no models, to the runtime, which knows
no prompts."""
