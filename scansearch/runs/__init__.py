"""The run folder, and the jobs that fill one: a search, a training, an evolution."""
