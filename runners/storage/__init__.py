"""A run on disk. The only room that opens the files of a run."""
