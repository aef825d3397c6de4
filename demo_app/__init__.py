"""A small shop, the fixes it gets while it runs, and the tour that shows them (`make demo`)."""
