"""The ipywidgets pages of notebook 03."""
