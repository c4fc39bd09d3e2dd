"""The subcommands of reproduce.py, one file each, and their shared parts."""
