"""Training a derived model from scratch."""
