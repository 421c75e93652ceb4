"""Many runs of a notebook."""
