"""Speed on this machine, each figure beside the strongest alternative."""
