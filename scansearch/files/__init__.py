"""Reading and writing files: the only parser of YAML and JSON, atomic writes, safe archives."""
