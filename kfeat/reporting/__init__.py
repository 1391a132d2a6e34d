"""Tables, figures and pages, from results and images; nothing here computes a score."""
