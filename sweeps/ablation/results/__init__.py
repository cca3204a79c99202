"""What an ablation has shown, read from its folder: the table, as text and files, and how it stands."""
