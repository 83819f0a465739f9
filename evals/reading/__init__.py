"""Official files and hub mirrors become samples, answers and images."""
