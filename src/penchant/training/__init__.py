"""From the log to a published model: training rows, models, artifacts and the gate that lets them serve."""
