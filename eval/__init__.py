"""From stored samples to tables, figures and a page: imports the core, is never imported by it."""
