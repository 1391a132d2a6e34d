"""The study repeated: its tables, figures and findings, from one command."""
