"""urial-local: base language models as assistants, on your own hardware."""

__version__ = "0.1.0"
