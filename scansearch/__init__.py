"""scansearch: searches the scan directions of vision state-space models."""
