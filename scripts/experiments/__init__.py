"""The subcommands of reproduce.py, one file each, and what they share."""
