"""Pictures with masks: a specification -> splits whose targets say the class of every pixel."""
