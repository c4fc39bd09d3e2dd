"""Other libraries: translators where their users already are."""
