"""The models: facts, files, fetching."""
