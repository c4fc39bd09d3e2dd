"""Look inside: the tab, and the inspection of a translator that it shows."""
