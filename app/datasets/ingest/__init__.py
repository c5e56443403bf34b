"""From a file of any accepted format to checked Parquet and a profile."""
