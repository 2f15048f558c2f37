"""What several finished runs say together: comparison, rank fidelity, and the tabular benchmark."""
