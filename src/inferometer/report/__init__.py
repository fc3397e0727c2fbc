"""Reports of a comparison: terminal, Markdown, HTML, JSON and pictures, one module for each form. Pure."""
