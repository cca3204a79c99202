"""Files of a run read many times faster, if they are as a run writes them; others are left to the careful readers."""
