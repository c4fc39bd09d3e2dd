"""The subcommands of benchmark.py, one file each."""
