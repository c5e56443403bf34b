"""Consumer groups: clients that share the reading of a topic, each partition by one of them."""
