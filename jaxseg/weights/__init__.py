"""Third-party weights: read files, rename parameters, convert layouts, download."""
