"""Pictures with objects: a specification -> splits whose targets say box, class and mask of every object."""
