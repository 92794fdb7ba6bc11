"""Thin adapters between a codec and a way of doing I/O; see `_contract` for what they share."""
