"""What :func:`scansearch.derive` is made of: the question, the order of preference, the exact search."""
