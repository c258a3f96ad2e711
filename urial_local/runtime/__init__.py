"""The only floor that knows llama.cpp: models, sequences, sampling, the engine. No wording here."""
