"""What is learnt from a stream, record by record, and how well it foretells."""
