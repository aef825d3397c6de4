"""A shop whose carts live in the memory of its workers."""
