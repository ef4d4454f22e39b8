"""The numbers that the papers print, and the table that puts ours beneath them."""
