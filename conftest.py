"""What pytest leaves alone in the packages, whose doctests it runs too."""

from importlib.util import find_spec

# The modules for Ray import it, which only `make test-all` installs.
collect_ignore_glob = [] if find_spec("ray") else ["runners/workers/ray*.py"]
