"""Reports of evaluated runs: one HTML file that needs nothing else, with Markdown and JSON beside it."""
