"""The rows that are measured on a GPU."""
