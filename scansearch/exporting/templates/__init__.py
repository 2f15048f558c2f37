"""Models in plain torch, one module per family, from which the standalone files are made.

They are ordinary modules, linted, typed and tested; the exporter joins ``shared`` and a family's module into one
file and fills in the genotype. Traced for ``.pt2`` and ONNX they take the log-depth scan.
"""
