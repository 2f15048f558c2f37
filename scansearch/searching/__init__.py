"""Searching: supernet, relaxations, updates, selections, strategies, and the task that runs them."""
