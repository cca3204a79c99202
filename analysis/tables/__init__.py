"""Run folders to one table, and tables as text: for a terminal, as CSV, markdown and LaTeX."""
