"""Put a fix into Python processes that are running, prove it, and take it out again."""

__version__ = "0.1.0"
