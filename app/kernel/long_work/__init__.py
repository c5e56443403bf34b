"""Long work as a resource: its states, its worker's side, its routes."""
