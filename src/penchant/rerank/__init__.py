"""From scored candidates to a slate: policy filters, diversity, quotas, exploration, reasons."""
