"""The report of a finished run: what distillation kept, gained and cost, as one HTML file and as Markdown."""
