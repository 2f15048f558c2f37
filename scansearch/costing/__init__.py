"""What a model costs before it is trained: FLOPs, parameters, memory, measured latency."""
