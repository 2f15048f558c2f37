"""From preferences to genotypes, exactly and within budgets."""
