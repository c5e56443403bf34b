"""The job engine: a queue in each service's database, and the workers that claim from it."""
