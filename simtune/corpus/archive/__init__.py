"""Public corpora as archives: download, verification and unpacking."""
