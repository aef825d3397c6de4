"""The pure engine: sources, code objects and live objects in; decisions and undo logs out."""
