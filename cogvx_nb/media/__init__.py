"""Pictures and clips as inputs: read, judged, fitted to a video's size, and kept by content."""
