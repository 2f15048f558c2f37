"""How values show themselves: HTML for notebooks and reports, small scan paths, pandas tables, pictures by name."""
