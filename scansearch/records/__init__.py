"""One immutable value each, with one file on disk: spaces, preferences, costs, genotypes, weights."""
