"""One file or folder per tab; the file with `build(repos)` adds it to the page."""
