"""Whether this machine can do it. Must work in a broken environment."""
