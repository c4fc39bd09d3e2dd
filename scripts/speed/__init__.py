"""What `benchmark.py speed` measures: rows for the CPU and for a GPU, timed by turns."""
