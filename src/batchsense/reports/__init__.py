"""Results to JSON, tables, figures and one self-contained HTML page."""
