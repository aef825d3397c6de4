"""The operator's side: the `zdpatch` command."""
