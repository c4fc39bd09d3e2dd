"""Vector stores, one file each: read, written beside what is there, and switched."""
